"""Clients that live as long as the application, injected by their class; their errors as answers of ours; their health.

    app = FastAPI(lifespan=lifespan(Weather, Orders))

    @app.get("/trip/{city}")
    async def trip(city: str, weather: Use[Weather]): ...

The lifespan also installs what answers their errors, asks for their health, and lets a caller's deadline and leaving reach the calls;
`install` does that by itself.
"""

from fairlead.fastapi.inject import Named, Use, provide
from fairlead.fastapi.install import install
from fairlead.fastapi.lifespan import lifespan
from fairlead.proxy import passthrough

__all__ = ["Named", "Use", "install", "lifespan", "passthrough", "provide"]
