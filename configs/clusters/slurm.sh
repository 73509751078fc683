#!/usr/bin/env bash
# A search on Slurm: one Ray node on each machine of the allocation, the driver on the first.
#
#     sbatch configs/clusters/slurm.sh my.yaml --run /shared/runs/first --set workers.gpus=0.25 --set workers.cpus=4
#     sbatch configs/clusters/slurm.sh resume /shared/runs/first       # goes on after the time limit
#
# Four workers of 4 CPUs share each machine's GPU so. evonas is installed in the environment that is active when you call sbatch. The database of a run in a shared folder
# is SQLite on a network file system: only this job may drive it; `evonas doctor` tells whether locks work there.
#SBATCH --job-name=evonas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120 # evonas stops and keeps everything two minutes before the end
set -euo pipefail

port=6379
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$port
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}

node() { # one Ray node, as long as the job lives
  local host=$1
  shift
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$host" \
    ray start --block --num-cpus="$SLURM_CPUS_PER_TASK" "$@" &
}

node "$head" --head --port=$port
sleep 15
for host in "${nodes[@]:1}"; do
  node "$host" --address="$address"
done
sleep 15

case ${1:?a config, or: resume RUN} in
  resume) evonas resume "$2" & ;;
  *) evonas search "$1" --set cluster.address="$address" "${@:2}" & ;;
esac
driver=$!
trap 'kill -TERM $driver; wait $driver' TERM
wait $driver
