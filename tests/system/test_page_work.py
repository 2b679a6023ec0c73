"""Work done on the page: jobs and runs submitted by a form, cloned, compared, deleted; files taken."""
import hashlib
import json
import re
import urllib.request

import numpy
import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import safetensors
from browser import contrast_failures
from harness import MODEL, cli, layer_job, submit, wait_for
from page_fixtures import (  # pylint: disable=unused-import
    ENDLESS, WHOLE, clean_browser, finished_job, its_client, job_page, one_chromium, opened,
    opened_run, page_server)
from attnprune.v1 import job_pb2 as job_api
from attnprune.v1 import prune_service_pb2 as prune_api

LAYERS = {"attnprune/weights": "/models/llama-1b/"}


@pytest.fixture(scope="module", name="trained")
def run_with_trainings(server, client):
    """A run that has ended, with rows that the model wrote, and trainings."""
    submitted = cli("submit", "--run", "--server", server.address, "--model", MODEL,
                    "--text", MODEL / "calibration.txt", "--samples", 3, "--sequence-length", 48,
                    "--sparsity", "0.5", "--method", "magnitude", "--sampled-rows", "2",
                    "--distill", "on:steps=2", "--reconstruct", "on:steps=2")
    assert submitted.returncode == 0, submitted.stderr
    *_, last = client.watch(submitted.stdout.strip())
    assert last.run_terminal.state == job_api.SUCCEEDED, last.run_terminal.failure.message
    return last.run_terminal


def fill(browser, part, text):
    field = browser.find(f"[data-part={part}]")
    field.clear()
    field.send_keys(text)


def opened_form(browser, server, name):
    browser.open(f"{server.page}#/new?from={name}")
    browser.wait_for_js("document.querySelector('.method select')?.value")


def fetched(server, link):
    with urllib.request.urlopen(server.page + link) as answer:
        return answer.read()


def whole_file(folder):
    """That a browser has brought: alone by its name, once nothing of it has another."""
    names = list(folder.iterdir())
    whole = [name for name in names if name.suffix == ".safetensors" and name.stat().st_size > 0]
    return whole[0] if len(whole) == len(names) == 1 else None


def list_all():
    return prune_api.ListJobsRequest(page_size=1000)


def links(browser, selector):
    return browser.js("return [...document.querySelectorAll(arguments[0])]"
                      ".map((node) => node.getAttribute('href'))", selector)


def test_a_job_is_cloned_changed_checked_and_submitted(browser, server, client, compared):
    opened(browser, server, compared.name)
    browser.find("[data-part=clone]").click()
    browser.wait_for_js("document.querySelectorAll('.method').length === 5")
    for remove in browser.driver.find_elements("css selector", ".method button")[1:]:
        remove.click()
    method, other = browser.driver.find_elements("css selector", ".method")
    Select(method.find_element("css selector", "select")).select_by_value("gd")
    assert other.find_element("css selector", "select").get_attribute("value") == "wanda"
    method.find_element("css selector", "summary").click()
    method.find_element("css selector", "input[name=steps]").send_keys("7")
    fill(browser, "sparsity", "2:4")
    browser.find("[data-part=check]").click()
    browser.wait_for_text("[data-part=answer]", "^Valid: about .* on one idle thread, .* of memory")
    assert contrast_failures(browser) == []
    browser.shot("submit")
    fill(browser, "sparsity", "1.5")
    browser.find("[data-part=submit]").click()
    browser.wait_for_text("[data-part=answer]", "Sparsity must be a fraction")
    fill(browser, "sparsity", "1:4")
    browser.find("[data-part=submit]").click()
    browser.wait_for_js("location.hash.startsWith('#/jobs/')")
    name = browser.js("return location.hash").removeprefix("#/")
    assert name != compared.name
    made = client.finish(name)
    assert made.state == job_api.SUCCEEDED
    assert [(method.name, dict(method.parameters)) for method in made.methods] == [
        ("gd", {"steps": 7}), ("wanda", {})]
    assert (made.sparsity.n_of_m.n, made.sparsity.n_of_m.m) == (1, 4)
    assert made.problem == compared.problem and made.calibration == compared.calibration
    assert made.labels == compared.labels


def unfold(browser):
    browser.js("document.querySelectorAll('.form details').forEach((node) => { node.open = true; })")


def choose(browser, label, digest):
    Select(browser.find(f"select[aria-label='{label}']")).select_by_value(digest)


def test_a_layer_is_put_together_of_tensors_that_are_stored(browser, server, client, compared):
    """Two weights that a job has named, and a batch that nobody has."""
    data = numpy.random.default_rng(1).standard_normal((2, 16, 128), numpy.float32).tobytes()
    loose = hashlib.sha256(data).hexdigest()
    put = urllib.request.Request(
        f"{server.page}api/v1/uploads/x?sha256={loose}&sizeBytes={len(data)}&dtype=F32", data,
        method="PUT")
    urllib.request.urlopen(put).close()
    weights = compared.problem.projections
    browser.emulate(width=360, height=740)
    browser.open(f"{server.page}#/new?from=tensors")
    browser.wait_for_js("document.querySelectorAll('[data-part=chooser] select').length > 2")
    wait_for(lambda: browser.overflow() == 0, "nothing is wider than the window")
    for part, value in (("headCount", "8"), ("keyHeads", "4"), ("theta", "10000")):
        fill(browser, part, value)
    choose(browser, "Weights of queries", weights.w_q.sha256)
    browser.find("[data-part=check]").click()
    browser.wait_for_text("[data-part=answer]", "Not valid: Weights of keys must be chosen")
    choose(browser, "Weights of keys", weights.w_k.sha256)
    choose(browser, "Batch 1", loose)
    shape = browser.find("input[aria-label='Batch 1: shape']")
    shape.send_keys("2x16x127")
    browser.find("[data-part=check]").click()
    browser.wait_for_text("[data-part=answer]", "Batch 1: 2 × 16 × 127 of F32 are 16,256 bytes, "
                                                "the tensor has 16,384")
    shape.clear()
    shape.send_keys("2x16x128")
    browser.find("[data-part=addCalibration]").click()
    choose(browser, "Batch 2", compared.calibration[0].sha256)
    browser.find("[data-part=addHeldOut]").click()
    choose(browser, "Held-out batch 1", compared.held_out[0].sha256)
    Select(browser.find(".method select")).select_by_value("magnitude")
    browser.find("[data-part=check]").click()
    browser.wait_for_text("[data-part=answer]", "^Valid: about ")
    assert browser.overflow() == 0 and contrast_failures(browser) == []
    browser.shot("submit-tensors-360")
    browser.find("[data-part=submit]").click()
    browser.wait_for_js("location.hash.startsWith('#/jobs/')")
    made = client.finish(browser.js("return location.hash").removeprefix("#/"))
    assert made.state == job_api.SUCCEEDED, made.failure.message
    assert made.problem == compared.problem and made.held_out == compared.held_out
    assert [(list(ref.shape), ref.sha256) for ref in made.calibration] == [
        ([2, 16, 128], loose), (list(compared.calibration[0].shape), compared.calibration[0].sha256)]


def test_a_job_is_submitted_anew_on_other_data(browser, server, client, compared):
    opened_form(browser, server, compared.name)
    browser.find("[data-part=tensors] > summary").click()
    browser.wait_for_js("document.querySelector('[aria-label=\"Batch 1\"]')?.value")
    assert browser.text("[aria-label='Weights of queries'] option:checked").endswith(" · as it is")
    choose(browser, "Batch 1", compared.held_out[0].sha256)
    browser.find("[aria-label='Remove Held-out batch 1']").click()
    unfold(browser)
    fill(browser, "labels", 'note="a, b", team=c')
    for remove in browser.driver.find_elements("css selector", ".method .controls button"):
        remove.click()
    browser.find("[data-part=submit]").click()
    browser.wait_for_js("location.hash.startsWith('#/jobs/')")
    made = client.finish(browser.js("return location.hash").removeprefix("#/"))
    assert made.problem == compared.problem and not made.held_out
    assert made.calibration == compared.held_out
    assert dict(made.labels) == {"note": "a, b", "team": "c"}
    opened_form(browser, server, made.name)
    assert browser.find("[data-part=labels]").get_attribute("value") == 'note="a, b", team=c'


def test_another_method_is_at_once_in_the_request(browser, server, compared):
    opened_form(browser, server, compared.name)
    unfold(browser)
    last = browser.driver.find_elements("css selector", ".method")[-1]
    assert last.find_element("css selector", "input[name=steps]").get_attribute("value") == "300"
    Select(last.find_element("css selector", "select")).select_by_value("wanda")
    method = json.loads(browser.text("[data-part=json]"))["job"]["methods"][-1]
    assert method == {"name": "wanda", "parameters": {}}


def test_what_the_server_refuses_stays_in_the_form(browser, server, client, compared):
    browser.expected_codes = {400}
    opened_form(browser, server, compared.name)
    jobs = len(client.jobs.ListJobs(list_all()).jobs)
    unfold(browser)
    fill(browser, "priority", "5000")
    browser.find("[data-part=submit]").click()
    browser.wait_for_text("[data-part=answer]", r"Not submitted: job.priority must be .*got 5000")
    assert len(client.jobs.ListJobs(list_all()).jobs) == jobs


def test_a_run_is_cloned_with_another_method(browser, server, client, trained):
    opened_form(browser, server, trained.name)
    methods = Select(browser.find(".method select"))
    assert methods.first_selected_option.text == "magnitude"
    methods.select_by_value("wanda")
    assert not browser.find("[data-part=addMethod]").is_displayed()
    for part in ("reconstruction", "distillation"):
        assert browser.find(f"[data-part={part}]").is_selected()
        browser.find(f"[data-part={part}]").click()
    browser.find("[data-part=submit]").click()
    browser.wait_for_js("location.hash.startsWith('#/runs/')")
    name = browser.js("return location.hash").removeprefix("#/")
    *_, last = client.watch(name)
    run = last.run_terminal
    assert run.state == job_api.SUCCEEDED and run.method.name == "wanda"
    assert run.model == trained.model and run.sparsity == trained.sparsity
    assert run.sampled == trained.sampled
    assert not run.HasField("reconstruction") and not run.HasField("distillation")


def test_a_job_s_files_are_the_masks_and_weights_of_the_store(browser, server, client, compared):
    opened(browser, server, compared.name)
    rows = links(browser, ".results tbody a")
    assert len(rows) == len(compared.results)
    best = min(compared.results, key=lambda result: result.relative_error.held_out)
    (server.folder.parent / "best").write_bytes(fetched(server, rows[0]))
    tensors = safetensors.read(server.folder.parent / "best")
    for matrix in best.matrices:
        assert tensors[matrix.name][2] == client.download(matrix.weights.sha256)
    browser.wait_for_js("document.querySelectorAll('.pictures figcaption a').length === 2")
    masks = links(browser, ".pictures figcaption a")
    (server.folder.parent / "mask.npy").write_bytes(fetched(server, masks[0]))
    mask = numpy.load(server.folder.parent / "mask.npy")
    assert mask.size - mask.sum() == best.matrices[0].pruned


def test_masks_have_axes_and_borders_between_heads(browser, server, compared):
    opened(browser, server, compared.name)
    browser.wait_for_js("document.querySelectorAll('.pictures canvas').length === 2")
    assert [text.strip("← ") for text in browser.texts(".axis-y")] == [
        "8 heads, 128 outputs", "4 heads, 64 outputs"]
    assert browser.texts(".axis-x") == ["128 inputs →"] * 2
    lines = browser.js("return [...document.querySelectorAll('.borders')].map((box) => "
                       "[...box.children].map((line) => parseFloat(line.style.top)))")
    assert lines == [[12.5 * head for head in range(1, 8)], [25, 50, 75]]


def test_jobs_are_compared_side_by_side(browser, server, client, compared):
    job, _ = layer_job(methods=(("gd", {"steps": 50}),), sparsity=0.3, labels={"set": "other"})
    other = client.finish(client.create(job).name)
    browser.open(server.page)
    for name in (compared.name, other.name):
        box = f".queue input[aria-label='Compare {name.removeprefix('jobs/')}']"
        browser.wait_for_js(f"document.querySelector(\"{box}\") !== null")
        browser.find(box).click()
    browser.wait_for_text("[data-part=compare]", "^Compare 2 jobs$")
    browser.find("[data-part=compare]").click()
    count = len(compared.results) + 1
    browser.wait_for_js(f"document.querySelectorAll('[data-part=rows] tr').length === {count}")
    browser.wait_for_js("document.querySelectorAll('[data-part=errorChart] canvas').length === 1")
    rows = browser.js("return [...document.querySelectorAll('[data-part=rows] tr')]"
                      ".map((row) => [...row.cells].map((cell) => cell.textContent))")
    expected = sorted([(result.relative_error.held_out, f"{letter} {result.method}")
                       for letter, job in (("A", compared), ("B", other)) for result in job.results])
    assert [row[0] for row in rows] == [label for _, label in expected]
    assert [float(row[1]) for row in rows] == pytest.approx([error for error, _ in expected], rel=6e-3)
    differs = dict(browser.js("return [...document.querySelectorAll('.differs')].map((row) => "
                              "[row.cells[0].textContent, [row.cells[1].textContent, "
                              "row.cells[2].textContent]])"))
    assert differs["sparsity"] == ["50 %", "30 %"] and "problem" not in differs
    assert contrast_failures(browser) == []
    browser.shot("compare")
    browser.emulate(width=360, height=740)
    wait_for(lambda: browser.overflow() == 0, "nothing is wider than the window")
    browser.shot("compare-360")


def test_the_layers_of_a_model_stand_in_one_view(browser, server, client):
    names = {}
    for layer in (1, 0):
        job = submit(client, layer=layer, methods=(("magnitude", {}),),
                     labels={**LAYERS, "attnprune/layer": str(layer)})
        names[layer] = client.finish(job.name).name
    waits = submit(client, methods=ENDLESS, labels={**LAYERS, "attnprune/layer": "2"}).name
    client.wait_for_step(waits)
    browser.open(server.page)
    browser.wait_for_text(".queue .model", "llama-1b, layer 2")
    browser.find(".queue .model a").click()
    browser.wait_for_text("h1", "llama-1b")
    rows = "return [...document.querySelectorAll('.layers tbody tr')].map((row) => " \
           "[row.cells[0].textContent, row.cells[1].textContent])"
    ids = {layer: name.removeprefix("jobs/") for layer, name in names.items()}
    expected = [["0", f"{ids[0]} succeeded"], ["1", f"{ids[1]} succeeded"],
                ["2", f"{waits.removeprefix('jobs/')} running"]]
    wait_for(lambda: browser.js(rows) == expected, "three layers in their order")
    assert browser.text("[data-part=done]") == "2 of 3 jobs"
    browser.wait_for_text("[data-part=left]", r"\d (s|min|h|d)")
    assert 0.6 < browser.js("return document.querySelector('progress.whole').value") < 0.8
    assert contrast_failures(browser) == []
    browser.shot("model")
    browser.emulate(width=360, height=740)
    wait_for(lambda: browser.overflow() == 0, "nothing is wider than the window")
    cut_off = "return [...document.querySelectorAll('.card')].filter((card) => " \
              "card.scrollWidth > card.clientWidth).length"
    assert browser.js(cut_off) == 0
    browser.shot("model-360")
    fill(browser, "filter", "running")
    wait_for(lambda: browser.js(rows) == expected[2:], "what matches alone")
    client.cancel(waits)
    browser.open(job_page(server, names[0]))
    browser.wait_for_text("h1", f"^llama-1b, layer 0 {ids[0]}$")


def test_the_leader_is_shown_while_methods_run(browser, server, client):
    name = submit(client, methods=(("magnitude", {}), *ENDLESS)).name
    client.wait_for_step(name, 30)
    opened(browser, server, name)
    browser.wait_for_text("[data-part=bestName]", "Best held-out error so far")
    browser.wait_for_text("[data-part=bestMethod]", "^(magnitude|gd, at step [\\d,]+)$")
    wait_for(lambda: len([text for text in browser.texts(".leads:not([hidden])")]) == 1, "one leads")
    client.cancel(name)
    browser.wait_for_text("[data-part=bestName]", "^Best held-out error$")


def test_a_job_that_has_ended_is_deleted_from_its_page(browser, server, client):
    name = client.finish(submit(client, methods=(("magnitude", {}),)).name).name
    browser.expected_codes = {404}
    browser.open(job_page(server, name))
    browser.wait_for_js(WHOLE)
    browser.find("[data-part=remove]").click()
    assert browser.text("#cancel-question") == f"Delete job {name.removeprefix('jobs/')}?"
    browser.press(Keys.ESCAPE)
    browser.find("[data-part=remove]").click()
    browser.find("#cancel-dialog [data-part=yes]").click()
    browser.wait_for_text("h1", "Queue")
    assert name not in [job.name for job in client.jobs.ListJobs(list_all()).jobs]


def test_what_stands_between_a_run_s_tensors_has_rows_of_its_own(browser, server, client, trained,
                                                                 tmp_path):
    opened_run(browser, server, trained.name)
    browser.find("[data-part=resultCount]").click()
    table = "return [...document.querySelectorAll('[data-part=resultRows] tr')].map((row) => " \
            "[...row.cells].map((cell) => cell.textContent))"
    rows = browser.js(table)
    firsts = [row[0] for row in rows]
    between = [first for first in firsts if not first.startswith("model.")]
    assert re.fullmatch(r"sampled rowsbefore the blocks[\d,]+ tokens", between[0])
    for block, first in enumerate(between[1:5]):
        assert re.fullmatch(rf"reconstructionblock {block}loss \S+ → \S+, .*best.*", first)
    assert re.fullmatch(r"distillationbehind the blocksloss \S+ → \S+, .*best.*", between[5])
    tensors = [tensor for result in trained.results for tensor in result.tensors]
    assert {first for first in firsts if first.startswith("model.")} == {
        tensor.name + f"block {tensor.name.split('.')[2]}: {', '.join(tensor.maps)}"
        for tensor in tensors}
    browser.shot("run-results")
    browser.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tensor = next(result.tensors[0] for result in reversed(trained.results) if result.tensors)
    browser.js("document.querySelector(`[aria-label='File of ${arguments[0]}']`).click()", tensor.name)
    file = wait_for(lambda: whole_file(tmp_path), "the file is there")
    assert safetensors.read(file)[tensor.name][2] == client.download(tensor.weights.sha256)
    fill(browser, "resultFilter", "block 2 gate")
    wait_for(lambda: len(browser.js(table)) == 1, "the one that matches")
    browser.emulate(width=360, height=740)
    wait_for(lambda: browser.overflow() == 0, "nothing is wider than the window")


def test_the_form_fits_360_pixels_and_has_names(browser, server, compared):
    browser.emulate(width=360, height=740)
    opened_form(browser, server, compared.name)
    unfold(browser)
    assert browser.overflow() == 0
    assert contrast_failures(browser) == []
    nameless = [node for node in browser.accessible_nodes() if not node["name"] and node["focusable"]
                and node["role"] not in ("main", "RootWebArea")]
    assert nameless == []
    browser.shot("submit-360")
    assert json.loads(browser.text("[data-part=json]"))["job"]["methods"]
