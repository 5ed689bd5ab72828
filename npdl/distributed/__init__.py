"""Gradients over many workers, to the same bits as over one.

The unit of the arithmetic is the shard. A batch is cut into a fixed number of shards, of which the
first ones are one example longer where it does not divide; shard i gets the key ``fold(key, i)``;
each shard's gradient is computed on its own, and all are added in a fixed binary tree, weighted so
that the sum is the gradient of the mean over the batch. Ranks only decide who computes which
shards. So one process, or two, three or eight ranks of MPI give the same bits, as long as each uses
the same number of BLAS threads, on machines of one kind::

    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    step = train_step(model, loss, optimizer, shards=8, comm=comm)
    with aborting(comm):
        check_agreement(comm, model=model, state=state)
        for batch in batches:
            state, figures = step(state, batch)

and ``mpiexec -n 4 python train.py``. What is computed over the examples of a batch together, such
as the statistics of batch norm, is computed over those of a shard.
"""

from npdl.distributed._agreement import aborting, check_agreement
from npdl.distributed._sharded import all_reduce, fold_stats, sharded
from npdl.distributed._shards import rows_of

__all__ = ["aborting", "all_reduce", "check_agreement", "fold_stats", "rows_of", "sharded"]
