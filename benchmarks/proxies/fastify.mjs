// As its README has it. `undici` holds as many connections as are open at once; a stream of events is never late.
import { createRequire } from 'node:module'

const [folder, port, upstream] = process.argv.slice(2)
const require = createRequire(`${folder}/`)
const server = require('fastify')()

server.register(require('@fastify/http-proxy'), {
  upstream: `http://127.0.0.1:${upstream}`,
  undici: { connections: 16384, pipelining: 1, bodyTimeout: 0, headersTimeout: 60000 }
})
await server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 })
