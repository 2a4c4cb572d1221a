"""Makes the bronze files of the sample lake: online-course view events, with the mess that real ones have.

Always the same files: python3 data/generate.py
"""

import csv
import datetime as dt
import pathlib
import random

BRONZE = pathlib.Path(__file__).parent / "bronze"
DAYS = [dt.date(2026, 3, day) for day in range(1, 8)]
# Views of March 4th that reached the inbox a day late.
LATE = dt.date(2026, 3, 4)
EDGES = ["11:59:59", "12:00:00", "16:59:59", "17:00:00"]
PLATFORMS = ["web", "ios", "android", "tv"]
TITLES = [
    "Rust in Practice", "SQL from Zero", "Streaming Systems", "Data Modelling", "Statistics, Gently",
    "Maschinelles Lernen für Einsteiger", "Graph Theory", "Cloud Costs", "Testing Data", "Dashboards that Help",
    "Python for Analysts", "Lakehouse Design", "Compilers", "Numerical Methods", "Ethics of Data",
    "Introducción a Bases de Datos", "Distributed Systems", "Visual Design", "Time Series", "Security Basics",
]
HEADER = ["timestamp", "user_id", "platform", "course_id", "chapter_id"]


def view(rng, day):
    seconds = min(86_399, max(0, int(rng.gauss(14 * 3600, 4 * 3600))))
    moment = dt.datetime.combine(day, dt.time()) + dt.timedelta(seconds=seconds)
    course = min(len(TITLES), 1 + int(rng.expovariate(0.18)))
    return [
        moment.strftime("%Y-%m-%d %H:%M:%S"), f"u{rng.randint(1, 900):04d}", rng.choice(PLATFORMS),
        str(course), str(rng.randint(1, 24)),
    ]


def spoil(rng, row):
    """One row in a hundred is wrong in one of the ways that producers find."""
    row = list(row)
    kind = rng.randrange(6)
    if kind == 0:
        row[0] = rng.choice(["yesterday", "2026-13-45 10:00:00", "03/04/2026 10:00", ""])
    elif kind == 1:
        row[3] = rng.choice(["n/a", "course-7", ""])
    elif kind == 2:
        row[4] = rng.choice(["intro", ""])
    elif kind == 3:
        row[1] = ""
    elif kind == 4:
        row[2] = ""
    else:
        row[3], row[4] = "", ""
    return row


def day_rows(rng, day, count):
    rows = [view(rng, day) for _ in range(count)]
    rows = [spoil(rng, row) if rng.random() < 0.01 else row for row in rows]
    rows += rng.sample(rows, count // 50)
    rng.shuffle(rows)
    return rows


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def main():
    rng = random.Random(20260301)
    late = []
    for day in DAYS:
        rows = day_rows(rng, day, 2_800)
        for number, time in enumerate(EDGES):
            rows.append([f"{day} {time}", f"u{number + 1:04d}", "web", "2", "1"])
        if day == LATE:
            late, rows = rows[:180], rows[180:]
        half = len(rows) // 2
        for hour, part in (("00", rows[:half]), ("12", rows[half:])):
            write(BRONZE / "views" / f"views_{day}_{hour}.csv", HEADER, part)
    # The late file also repeats rows that were delivered in time.
    write(BRONZE / "views" / f"views_{LATE}_late.csv", HEADER, late + rows[:20])
    courses = [
        [str(number), title, rng.choice(["data", "engineering", "design"]), str(rng.randint(8, 24))]
        for number, title in enumerate(TITLES, start=1)
    ]
    write(BRONZE / "courses" / "courses.csv", ["course_id", "title", "category", "chapters"], courses)


if __name__ == "__main__":
    main()
