"""Gradients over several workers, with the same bits as over one.

The unit of the arithmetic is the shard. A batch is cut into a fixed number of shards; if it does
not divide evenly, the first shards have one more example. Shard i gets the key ``fold(key, i)``.
The gradient of each shard is computed separately. The weighted gradients are added in a fixed
binary tree, and the sum is the gradient of the mean over the batch. Ranks only divide the shards
among themselves. So one process and any number of MPI ranks give the same bits. This requires
machines of one kind and the same number of BLAS threads everywhere::

    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    step = train_step(model, loss, optimizer, shards=8, comm=comm)
    with aborting(comm):
        check_agreement(comm, model=model, state=state)
        for batch in batches:
            state, metrics = step(state, batch)

and ``mpiexec -n 4 python train.py``. In a job of ``python -m npdl.run train.py``, `fit` needs no
communicator. Statistics over the examples of a batch, such as those in
batch norm, are computed per shard.
"""

from npdl.distributed._agreement import aborting, check_agreement
from npdl.distributed._job import alone, rank
from npdl.distributed._sharded import all_reduce, fold_stats, sharded
from npdl.distributed._shards import rows_of

__all__ = [
    "aborting",
    "all_reduce",
    "alone",
    "check_agreement",
    "fold_stats",
    "rank",
    "rows_of",
    "sharded",
]
