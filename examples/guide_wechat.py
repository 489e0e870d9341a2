"""A client class for one API, with an access token that it asks for once."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fairlead import HTTPClient


class WeChatAPIClient(HTTPClient):
    def __init__(self, app_id: str, app_secret: str):
        super().__init__(base_url="https://api.weixin.qq.com", timeout=10.0, max_retries=3)
        self.app_id = app_id
        self.app_secret = app_secret
        self._access_token: str | None = None

    async def get_access_token(self) -> str:
        if self._access_token:
            return self._access_token
        response = await self.get(
            "/cgi-bin/token",
            params={"grant_type": "client_credential", "appid": self.app_id, "secret": self.app_secret},
        )
        data = response.json()
        self._access_token = data["access_token"]
        return data["access_token"]

    async def send_template_message(self, openid: str, template_id: str, data: dict[str, Any]) -> dict[str, Any]:
        token = await self.get_access_token()
        response = await self.post(
            "/cgi-bin/message/template/send",
            params={"access_token": token},
            json={"touser": openid, "template_id": template_id, "data": data},
        )
        return response.json()


async def main() -> None:
    async with WeChatAPIClient(os.environ["WECHAT_APP_ID"], os.environ["WECHAT_APP_SECRET"]) as client:
        print(await client.send_template_message("OPENID", "TEMPLATE_ID", {"first": {"value": "Hello"}}))


if __name__ == "__main__":
    asyncio.run(main())
