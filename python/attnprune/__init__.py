"""Prunes transformers by an attnprune server: one that is there, or one of this process's own.

    with attnprune.local() as client:
        report = attnprune.prune(model, batches, sparsity=0.5, client=client)

docs/python.md of the project describes it all.
"""
from attnprune.backoff import Retry
from attnprune.capturing import Capture, capture
from attnprune.client import Client
from attnprune.errors import (Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, Error,
                              FailedPrecondition, Internal, Interrupted, InvalidArgument, JobFailed,
                              NotFound, OutOfRange, PermissionDenied, ResourceExhausted,
                              Unauthenticated, Unavailable, Unimplemented)
from attnprune.families import Attention, find_attentions
from attnprune.jobs import Job, Run
from attnprune.local_server import LocalClient, local
from attnprune.problem import Layer
from attnprune.pruning import Report, prune, prune_folder, prune_module
from attnprune.results import Result, RunResult
from attnprune.tensors import Tensor, tensor
from attnprune.watch import Watch

__all__ = ["Aborted", "AlreadyExists", "Attention", "Cancelled", "Capture", "Client", "DataLoss",
           "DeadlineExceeded", "Error", "FailedPrecondition", "Internal", "Interrupted",
           "InvalidArgument", "Job", "JobFailed", "Layer", "LocalClient", "NotFound", "OutOfRange",
           "PermissionDenied", "Report", "ResourceExhausted", "Result", "Retry", "Run", "RunResult",
           "Tensor", "Unauthenticated", "Unavailable", "Unimplemented", "Watch", "capture",
           "find_attentions", "local", "prune", "prune_folder", "prune_module",
           "tensor"]
