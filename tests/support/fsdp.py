"""`paydirt` under FSDP over gloo on the CPU: `torchrun ... -m support.fsdp train ...` (tests alone).

torch shards on the CPU, accelerate turns FSDP on for accelerators only: it is told here that the two processes are of
that kind, and computes on the CPU all the same. Wrapping, sharding, gathering and saving are the real ones.
"""

from __future__ import annotations

import sys

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType


def main() -> None:
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda self, *args, **kwargs: ("gloo", DistributedType.MULTI_GPU)

    def on_cpu(self: PartialState) -> None:
        self.device = torch.device("cpu")

    PartialState.set_device = on_cpu
    from paydirt import cli

    sys.argv[0] = "paydirt"
    cli.main()


if __name__ == "__main__":
    main()
