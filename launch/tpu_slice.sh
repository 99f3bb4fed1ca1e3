#!/bin/bash
# A run on a Cloud TPU slice, started on all of its hosts at once:
#
#     gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command="cd convnet-case-studies && bash launch/tpu_slice.sh --config=configs/resnet_imagenet.py:data=imagenet2012,scale=paper --config.batch_size=32768 --workdir=/shared/runs/resnet50 --data_dir=/shared/tfds"
#
# Before: the repository and its environment, with "jax[tpu]", on every host, and a file system that
# all hosts share (Filestore) at /shared. Whether a run fits is known before the slice is there:
# train.py --dry_run --on=v5e:16x16 (docs/devices.md).
#
# A host's metadata tell it which of the slice's hosts it is. A slice that is taken away (spot, or
# maintenance) shuts its hosts down: the processes get SIGTERM, save and exit with 75. Ask for the
# slice again and run the same command; the number of hosts and chips may be another one.
set -eu

metadata() {
    curl --silent --show-error --fail --header 'Metadata-Flavor: Google' \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# Host names, or name:id:address triples, separated by commas.
hosts=$(metadata worker-network-endpoints)
IFS=, read -r -a hosts <<< "$hosts"

if [ "${#hosts[@]}" -gt 1 ]; then # a slice of one host needs no coordinator
    JAX_PROCESS_ID=$(metadata agent-worker-number)
    export JAX_PROCESS_ID
    export JAX_NUM_PROCESSES=${#hosts[@]}
    export JAX_COORDINATOR_ADDRESS=${hosts[0]##*:}:8476
fi
exec .venv/bin/python train.py "$@"
