"""People who visit a shop: they get a list, look at some of it, buy, and come back.

An open model: people come at a rate, whether or not those before them have been answered, so that a server that falls
behind is not spared.

    pip install locust
    locust -f deploy/load/locustfile.py --headless --host http://127.0.0.1:7803 --run-time 60s --users 1

NEARFIELD_RATE    people a second (default 20); a visit is some nine calls
NEARFIELD_TOKEN   a bearer token with the scopes read and write, where the edge wants one
NEARFIELD_CALLS   a file for the milliseconds of each call, and why it failed, as CSV
"""

import csv
import os
import random

import gevent
from locust import FastHttpUser, events, task

RATE = float(os.environ.get("NEARFIELD_RATE", "20"))
TOKEN = os.environ.get("NEARFIELD_TOKEN")
CALLS = os.environ.get("NEARFIELD_CALLS")
# People are as many as come within ten minutes, so that most have been there before.
PEOPLE = max(100, int(RATE * 600))
# Of a visit, in seconds: people look, they do not wait for a server.
LOOK = 0.3


class Visitors(FastHttpUser):
    """One of these makes everyone come."""

    fixed_count = 1
    network_timeout = 10.0
    connection_timeout = 10.0
    concurrency = 1000

    @task
    def arrivals(self):
        while True:
            gevent.sleep(random.expovariate(RATE))
            gevent.spawn(self.visit, f"person-{random.randrange(PEOPLE)}")

    def visit(self, person):
        """Browse, buy, return."""
        listed = self.list(person, "discover")
        for _ in range(random.randint(2, 5)):
            if not listed:
                return
            gevent.sleep(random.expovariate(1 / LOOK))
            # Most choose among the first.
            chosen = listed[min(int(random.expovariate(0.4)), len(listed) - 1)]
            listed = self.observe(person, "view_item", chosen)
            if listed and random.random() < 0.25:
                self.observe(person, "add_to_cart", chosen)
                if random.random() < 0.5:
                    self.observe(person, "purchase", chosen)
        gevent.sleep(random.expovariate(1 / LOOK))
        self.list(person, "continue")

    def list(self, person, scenario):
        path = f"/v1/users/{person}/recommendations?count=20&scenario={scenario}"
        return self.ask("GET", path, f"list, {scenario}")

    def observe(self, person, kind, item):
        body = {"events": [{"kind": kind, "item_id": item}], "list": {"count": 20}}
        return self.ask("POST", f"/v1/users/{person}/observe", f"observe, {kind}", json=body)

    def ask(self, method, path, name, **more):
        """Calls, and gives the items of the list. A list of a lower rung is a failure here."""
        headers = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}
        with self.rest(method, path, name=name, headers=headers, **more) as answer:
            if answer.js is None:
                return []
            listed = answer.js.get("list", answer.js)
            if listed.get("rung") != "live":
                answer.failure(f"a list of rung {listed.get('rung')}")
            return [item["item_id"] for item in listed.get("items", [])]


@events.quitting.add_listener
def fail_on_failures(environment, **_):
    """Ends with 1 where calls have failed, for those who run it in a pipeline."""
    if environment.stats.total.num_failures > 0:
        environment.process_exit_code = 1


if CALLS:
    calls = []

    @events.request.add_listener
    def note(response_time, exception, **_):
        calls.append((f"{response_time:.3f}", exception or ""))

    @events.quitting.add_listener
    def write_calls(**_):
        with open(CALLS, "w", newline="") as file:
            csv.writer(file).writerows([("ms", "failure"), *calls])
