"""Locust traffic as a shop sends it: mostly histories, some stored users, filters, cold starts, batches and events.

    locust -f loadtest/locustfile.py --headless --users 50 --spawn-rate 10 --run-time 1m --host http://127.0.0.1:8000

The environment variable TANDEM_BUNDLE names the bundle that the service serves; histories are walks over its index.
"""

import os
import random
from pathlib import Path
from typing import Any

from locust import FastHttpUser, between, task

from loadtest.target import walks

HISTORIES = walks(Path(os.environ.get("TANDEM_BUNDLE", "bundles/demo")), 2000)


class Visitor(FastHttpUser):
    """Somebody who looks at items."""

    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        """Take an identity."""
        self.user_id = f"visitor-{random.randrange(10**9)}"

    def _recommend(self, name: str, **body: Any) -> None:
        self.client.post("/v1/recommend", json=body, name=name)

    @task(60)
    def after_a_history(self) -> None:
        """The caller knows what was seen."""
        self._recommend("recommend, history", user_id=self.user_id, history=random.choice(HISTORIES))

    @task(10)
    def stored_user(self) -> None:
        """The service knows what was seen."""
        self._recommend("recommend, stored user", user_id=self.user_id)

    @task(5)
    def cold_start(self) -> None:
        """Nothing was seen."""
        self._recommend("recommend, cold start", history=[])

    @task(10)
    def filtered(self) -> None:
        """One of a few departments of the shop, or all of it without some items."""
        history, others = random.choice(HISTORIES), HISTORIES[random.randrange(4) :: 4]
        if random.random() < 0.5:
            filters = {"include_item_ids": sorted({item_id for other in others for item_id in other})}
        else:
            filters = {"exclude_item_ids": others[0]}
        self._recommend("recommend, filtered", history=history, filters=filters)

    @task(2)
    def batch(self) -> None:
        """A newsletter."""
        requests = [{"history": history} for history in random.sample(HISTORIES, 16)]
        self.client.post("/v1/recommend:batch", json={"requests": requests}, name="recommend:batch, 16")

    @task(13)
    def event(self) -> None:
        """An item is looked at."""
        event = {"user_id": self.user_id, "item_id": random.choice(random.choice(HISTORIES))}
        self.client.post("/v1/events", json={"events": [event]}, name="events")
