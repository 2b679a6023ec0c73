"""1,000 queued jobs: pages, priorities, a restart. The timings are in tests/bench/service_load_bench.cc."""
from harness import Client, Server, layer_job, submit
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

JOBS = 1000


def list_all(client, page_size):
    token, pages = "", []
    while True:
        page = client.jobs.ListJobs(
            prune_api.ListJobsRequest(page_size=page_size, page_token=token))
        pages.append(list(page.jobs))
        token = page.next_page_token
        if not token:
            return pages


def test_a_thousand_queued_jobs_are_listed_ordered_and_kept(tmp_path, dice):
    with Server(tmp_path / "data") as server:
        with Client(server.address) as client:
            blocker = submit(client, methods=(("gd", {"steps": 1000000}),), priority=1000).name
            client.wait_for_step(blocker)
            job, tensors = layer_job(methods=(("magnitude", {}),))
            client.upload_missing(tensors)
            priorities = {}
            for number in range(JOBS):
                job.priority = dice.randrange(-3, 4)
                created = client.create(job, f"request-{number}")
                priorities[created.name] = job.priority
            check_pages(client, priorities, blocker)
        server.kill()
        server.start()
        with Client(server.address) as client:
            client.cancel(blocker)
            check_pages(client, priorities, blocker)
            # The first hundred to start are the oldest of the highest priority.
            in_order = sorted(priorities, key=lambda name: -priorities[name])[:100]
            ended = [client.finish(name) for name in in_order]
            starts = [job.start_time.ToNanoseconds() for job in ended]
            assert all(job.state == job_api.SUCCEEDED for job in ended)
            assert starts == sorted(starts), "priority, then age"


def check_pages(client, priorities, blocker):
    pages = list_all(client, 64)
    names = [job.name for page in pages for job in page]
    assert len(names) == len(set(names)) == JOBS + 1
    assert set(names) == set(priorities) | {blocker}
    assert names[-1] == blocker, "newest first"
    assert names[:-1] == list(reversed(priorities)), "newest first"
