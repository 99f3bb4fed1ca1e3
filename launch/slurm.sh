#!/bin/bash
# A run under SLURM, on any number of nodes, that survives preemption and time limits:
#
#     sbatch --nodes=2 launch/slurm.sh --config=configs/resnet_imagenet.py:data=imagenet2012,scale=paper --workdir=/shared/runs/resnet50 --data_dir=/shared/tfds
#
# One process a node, which takes all of the node's GPUs; the processes find each other by the
# variables that srun sets. --workdir and --data_dir are on a file system that all nodes share.
# Submit from the folder of this repository, with its environment in .venv.
#
# Two minutes before the time limit, and when another job preempts this one, SLURM sends SIGTERM to
# the processes: they agree on a step, save it and exit with 75. A job that ends within the grace
# time of a preemption is complete for SLURM, which would not requeue it, so this script does. The
# requeued job resumes from the saved step. Any other status is an error or the end, and final.

#SBATCH --job-name=convnets
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
#SBATCH --signal=TERM@120
# Of your site: the partition, the account, and what a node has, as
##SBATCH --partition=gpu
##SBATCH --gpus-per-node=8
##SBATCH --cpus-per-task=64

# SLURM may send SIGTERM to this shell, too; it must outlive the processes to requeue the job. A
# trap that does something is not inherited by them, an ignored signal would be.
trap : TERM

srun --kill-on-bad-exit=0 .venv/bin/python train.py "$@"
status=$?

if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
