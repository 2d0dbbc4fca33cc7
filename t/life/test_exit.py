"""The end of processes: threads that still run in them, and children that go on."""

import os

from lib.poll import until


def test_daemon_threads_in_a_c_library_survive_the_end_of_their_worker(nginx):
    """exit() would take OpenSSL down under them; the harness finds a worker that died."""
    site = nginx(apps=["busy_threads"])
    for _ in range(6):
        assert site.get("/busy_threads").body == b"busy"
        site.reload(gone=True)
    until(lambda: len(site.log.matching(r"exited with code 0")) == 6, what="every worker's end")


def test_a_single_process_with_a_stuck_thread_leaves_nothing_behind(nginx):
    site = nginx(
        master=False,
        http="wsgi_shutdown_timeout 300ms;",
        server="listen unix:@DIR@/socket; location /stuck/ { wsgi_app stuck:application; }",
    )
    site.allow_alert("python did not stop")
    with site.ask("/stuck/stuck_in_sleep"):
        site.wait_event("stuck stuck_in_sleep")
    assert os.path.exists(f"{site.dir}/socket")
    site.signal("QUIT")
    until(lambda: site.process.poll() is not None, 5, "nginx's end")
    assert site.process.poll() == 0
    assert not os.path.exists(f"{site.dir}/socket")
    assert site.read_pid() == 0


def test_what_a_forked_child_writes_goes_nowhere(nginx):
    site = nginx(apps=["forked_write"])
    assert site.get("/forked_write").body == b"from the worker"
    assert site.events("child") == ["child BrokenPipeError"]
    assert site.events("changed") == ["changed 0"]
