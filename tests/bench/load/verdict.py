"""What a soak must find of each job that was acknowledged, as plain values in and sentences out."""
import collections

PROGRESS = ("progress", "phase", "run_progress")  # what may be thinned out
TERMINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
Event = collections.namedtuple("Event", "sequence kind detail")  # kind: "progress", "terminal" ...


def event_of(message):
    """Of a JobEvent; detail tells two events of one sequence apart."""
    kind = message.WhichOneof("event")
    detail = b""
    if kind in ("state_change", "method_result", "run_result"):
        detail = getattr(message, kind).SerializeToString(deterministic=True)
    kind = "progress" if kind in PROGRESS else "terminal" if kind == "run_terminal" else kind
    return Event(message.sequence, kind, detail)


def watch_faults(name, seen, log):
    """seen: the events that one watcher was sent, through all its reconnects; log: those that the
    server replays afterwards. Progress may be thinned out, on the way and in the log; nothing else
    may be missing, come twice or come in another order."""
    sequences = [event.sequence for event in seen]
    if any(a >= b for a, b in zip(sequences, sequences[1:])):
        return [f"{name}: sequences repeat or fall: {sequences}"]
    by_sequence = {event.sequence: event for event in seen}
    missed = [event for event in log
              if event.kind != "progress" and event.sequence not in by_sequence]
    changed = [event for event in log
               if event.sequence in by_sequence and by_sequence[event.sequence] != event]
    return ([f"{name}: the watcher missed {event.kind} {event.sequence}" for event in missed] +
            [f"{name}: event {event.sequence} was another one for the watcher" for event in changed])


def log_faults(name, state, log):
    """A job's whole log: it ends once, at its end, in the state that the job has."""
    ends = [event for event in log if event.kind == "terminal"]
    if state not in TERMINAL:
        return [f"{name}: has not ended, is {state}"]
    if len(ends) != 1 or log[-1] != ends[0]:
        return [f"{name}: {len(ends)} terminal events, the last event is a {log[-1].kind}"]
    return []


def job_faults(acknowledged, listed):
    """acknowledged: {request_id: name} as clients were told; listed: [(request_id, name)], all jobs
    of the server. Nothing lost, nothing twice, nothing that nobody was told of."""
    faults = []
    by_request = collections.defaultdict(list)
    for request_id, name in listed:
        by_request[request_id].append(name)
    for request_id, name in acknowledged.items():
        found = by_request.pop(request_id, [])
        if not found:
            faults.append(f"{name} (request {request_id}): lost")
        elif found != [name]:
            faults.append(f"request {request_id}: acknowledged as {name}, made {found}")
    faults += [f"request {request_id}: made {names}, and nobody was told"
               for request_id, names in by_request.items()]
    return faults


def bit_faults(results):
    """results: [(specification, name, digests)] of jobs that succeeded: equal jobs, equal bits."""
    first = {}
    faults = []
    for specification, name, digests in results:
        other, expected = first.setdefault(specification, (name, digests))
        if digests != expected:
            faults.append(f"{name}: other bits than {other}, which is the same job")
    return faults
