"""wsgi_buffering: off, and where the disk is full or closed to the workers."""

import os
import subprocess

import pytest
from lib import h2client
from lib.buffered import MIB, ask, buffered, digest, drain, files, path, prepared, sha
from lib.poll import until, until_stable


@pytest.fixture
def site(make_nginx):
    return prepared(make_nginx).start()


@pytest.mark.parametrize("place, accel", [
    ("/off", None), ("/zero", None), ("/counting", "no"), ("/counting", "No"), ("/off", "maybe"),
    ("/zero", "yes"), ("/deaf", "yes"),
])
def test_off_the_application_waits_without_a_file(site, place, accel):
    more = {"accel": accel} if accel else {}
    client = ask(site, path(place, 400, 65536, **more))
    ahead = until_stable(lambda: len(site.events("produced"))) * 65536
    assert files(site) == [] and ahead < 12 * MIB
    response = drain(client)
    assert sha(response.body) == digest(400, 65536)
    assert response.header("X-Accel-Buffering") is None


@pytest.mark.parametrize("place, accel", [("/off", "yes"), ("/off", "YES"), ("/counting", "x")])
def test_the_application_can_ask_for_buffering(site, place, accel):
    client = ask(site, path(place, 200, 65536, accel=accel))
    site.wait_event("produced", 200)
    assert len(files(site)) == 1
    assert sha(drain(client).body) == digest(200, 65536)


def test_off_leaves_hardly_anything_in_memory(site):
    """With a stream that takes nothing, no more than a few small chunks are made."""
    with h2client.H2Connection(site.ports["PORT2"], window=1000) as client:
        stream = client.send("GET", path("/off", 1000, 500))
        client.wait(stream, lambda response: len(response.body) >= 1000)
        assert until_stable(lambda: len(site.events("produced"))) <= 20
        client.h2.increment_flow_control_window(1 << 20)
        client.h2.increment_flow_control_window(1 << 20, stream)
        client.flush()
        assert sha(client.wait(stream).body) == digest(1000, 500)


def test_off_each_chunk_is_on_the_wire_at_once(nginx):
    site = nginx(server="wsgi_buffering off; location = /parts { wsgi_app stream:parts; }")
    two, three = site.gate("two"), site.gate("three")
    with site.ask("/parts", close=False) as client:
        client.read_head()
        for part, gate in ((b"one", two), (b"two", three)):
            assert client.read_chunk() == part
            gate.open()
        assert client.read_chunk() == b"three"


@pytest.fixture
def small_disk(make_nginx):
    """A site whose temporary files lie on a disk of a megabyte."""
    site = prepared(make_nginx, http="wsgi_temp_path @DIR@/disk/full 1 2;")
    os.mkdir(f"{site.dir}/disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", f"{site.dir}/disk"]
    subprocess.run(mount, check=True)
    yield site
    for connection in site.connections:
        connection.close()
    if site.pid:
        site.quit()
    subprocess.run(["umount", f"{site.dir}/disk"], check=True)


def test_a_full_disk_cuts_the_response_and_nothing_else(small_disk):
    site = small_disk.start()
    for count, how in enumerate(("generator", "write"), 1):
        # One at a time: it has the whole disk, however late nginx takes what is in memory.
        client = ask(site, path("/", 400, 65536, how=how))
        site.log.wait_for(r"\[error\].* temporary file in ", count=count)
        site.wait_event("stopped", count)
        assert site.get("/plain").body == b"plain"
        assert sha(site.get(path("/", 40, 1000)).body) == digest(40, 1000)
        response = drain(client)
        assert (response.status, response.complete) == (200, False)
        assert len(response.body) > MIB
        whole = b"".join(buffered.chunk(n, 65536) for n in range(400))
        assert whole.startswith(response.body)
        # The space comes back with the end of the response.
        until(lambda: os.statvfs(f"{site.dir}/disk").f_bavail * 4096 >= MIB - 65536)
    lines = site.log.matching(r"\[error\]")
    assert len(lines) == 2
    for line in lines:
        assert f'temporary file in "{site.dir}/disk/full": No space left on device' in line
        assert 'request: "GET /?n=400' in line
    # Now it is enough for a response that fits, however slow the client is.
    client = ask(site, path("/", 12, 65536))
    assert sha(drain(client).body) == digest(12, 65536)


def test_a_directory_that_cannot_be_written_cuts_the_response(site):
    os.chown(f"{site.dir}/wsgi", 0, 0)
    client = ask(site, path("/", 400, 65536))
    (line,) = site.log.wait_for(r"\[error\]")
    assert f'temporary file in "{site.dir}/wsgi": Permission denied' in line
    response = drain(client)
    assert (response.status, response.complete) == (200, False)
    assert site.get("/plain").body == b"plain"
    assert len(site.log.matching(r"\[error\]")) == 1


def test_nginx_makes_the_directory_for_the_user_of_the_workers(site):
    found = os.stat(f"{site.dir}/wsgi")
    status = open(f"/proc/{site.worker()}/status").read()
    assert found.st_uid == int(status.partition("Uid:")[2].split()[0])
    assert found.st_mode & 0o777 == 0o700
