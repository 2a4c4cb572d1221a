#!/usr/bin/env python3
"""Makes the events of this example: the same bytes in every run.

    python3 data/generate.py [FOLDER]

A fleet in Berlin reports to a server whose clock stands in UTC-3. Each second it writes what has arrived into a file
of its own, for four minutes of each of three hours: 720 files. The mess is the one of the system that this replaces:

- the parts of a file's name are not zero-padded, and tell local time; the events inside tell UTC
- a file has the columns of the events that are in it: some have no location, some no vehicle at all
- the same event comes in two files, and now and then twice in one
- clocks of vehicles are wrong: events of 1970 and of 2035
"""

import datetime as dt
import json
import random
import sys
from pathlib import Path

LOCAL = dt.timedelta(hours=-3)
START = dt.datetime(2019, 6, 1, 15, 17, 0)
HOURS, SECONDS = 3, 240
ORGANIZATIONS = ["org-nord", "org-mitte", "org-süd"]
BERLIN = (52.52, 13.405)


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class Fleet:
    def __init__(self, chance):
        self.chance = chance
        self.places = {}
        self.waiting = [f"{chance.getrandbits(32):08x}-{number:02d}" for number in range(64)]
        self.periods = []
        self.number = 0

    def owner(self, vehicle):
        return ORGANIZATIONS[int(vehicle.split("-")[1]) % len(ORGANIZATIONS)]

    def event(self, kind, entity, at, data, organization):
        return {"event": kind, "on": entity, "at": stamp(at), "data": data, "organization_id": organization}

    def register(self, at):
        vehicle = self.waiting.pop()
        self.places[vehicle] = [BERLIN[0] + self.chance.gauss(0, 0.03), BERLIN[1] + self.chance.gauss(0, 0.05)]
        return self.event("register", "vehicle", at, {"id": vehicle}, self.owner(vehicle))

    def deregister(self, at):
        vehicle = self.chance.choice(sorted(self.places))
        del self.places[vehicle]
        return self.event("deregister", "vehicle", at, {"id": vehicle}, self.owner(vehicle))

    def update(self, at):
        # Some vehicles drive more than others.
        vehicles = sorted(self.places)
        vehicle = vehicles[min(int(self.chance.expovariate(0.08)), len(vehicles) - 1)]
        place = self.places[vehicle]
        place[0] += self.chance.gauss(0, 0.0004)
        place[1] += self.chance.gauss(0, 0.0006)
        seen = at - dt.timedelta(milliseconds=self.chance.randrange(900))
        location = {"lat": round(place[0], 5), "lng": round(place[1], 5), "at": stamp(seen)}
        return self.event("update", "vehicle", at, {"id": vehicle, "location": location}, self.owner(vehicle))

    def period(self, at):
        if self.periods and self.chance.random() < 0.4:
            organization, data = self.periods.pop(self.chance.randrange(len(self.periods)))
            return self.event("delete", "operating_period", at, {"id": data["id"]}, organization)
        self.number += 1
        begin = at.replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=self.chance.randrange(1, 12))
        finish = begin + dt.timedelta(hours=self.chance.randrange(1, 9))
        data = {"id": f"op_{self.number:04d}", "start": stamp(begin), "finish": stamp(finish)}
        organization = self.chance.choice(ORGANIZATIONS)
        self.periods.append((organization, data))
        return self.event("create", "operating_period", at, data, organization)


def of_second(fleet, chance, local):
    """The events of one second."""
    utc = local - LOCAL
    moments = sorted(utc + dt.timedelta(milliseconds=chance.randrange(1000)) for _ in range(chance.randrange(2, 7)))
    kind = chance.random()
    if len(fleet.places) < 40 or (fleet.waiting and kind < 0.03):
        return [fleet.register(at) for at in moments[:2]]
    if kind < 0.05:
        return [fleet.deregister(moments[0])]
    if kind < 0.15:
        return [fleet.period(at) for at in moments[:2]]
    events = [fleet.update(at) for at in moments]
    if kind > 0.9:
        events.append(fleet.period(moments[-1]))
    return events


def main(folder):
    chance = random.Random(20190601)
    fleet = Fleet(chance)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*-events.json"):
        old.unlink()
    before, wrong = [], {100: 1970, 333: 1970, 404: 2035, 606: 2035, 700: 1970}
    for number in range(HOURS * SECONDS):
        hour, second = divmod(number, SECONDS)
        local = START + dt.timedelta(hours=hour, seconds=second)
        events = of_second(fleet, chance, local)
        if number in wrong:
            lost = fleet.update(local - LOCAL)
            lost["at"] = f"{wrong[number]}" + lost["at"][4:]
            events.append(lost)
        again = [event for event in before if chance.random() < 0.03]
        if number % 97 == 0:
            again.append(events[0])
        name = f"{local:%Y-%m-%d}-{local.hour}-{local.minute}-{local.second}-events.json"
        lines = (json.dumps(event, ensure_ascii=False, separators=(",", ":")) for event in events + again)
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        before = events


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "inbox")
