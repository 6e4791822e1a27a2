# GPU training: CUDA's compiler for the operators, beside a PyTorch that was built for the same CUDA.
#   docker build -t fsdbev .
#   docker run --gpus all --ipc host -v /data/nuscenes:/fsdbev/data/nuscenes -v "$PWD/output:/fsdbev/output" \
#       fsdbev python tools/train_net.py --config-file configs/fsdbev_r50_cbgs.py --num-gpus 8
# For another CUDA give --build-arg CUDA=... and the version of torch in constraints.txt that has it.
ARG CUDA=13.0.1
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04

# Compute capabilities to compile for; the last one's code is compiled anew on later GPUs.
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0+PTX"
# Of who owns the folders that are mounted.
ARG USER_ID=1000

RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git python3.12 python3.12-dev python3.12-venv \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove ubuntu \
    && useradd --create-home --uid ${USER_ID} fsdbev \
    && install -d -o fsdbev -g fsdbev /fsdbev /fsdbev/data /fsdbev/output /opt/venv

USER fsdbev
WORKDIR /fsdbev
RUN python3.12 -m venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH} PYTHONUNBUFFERED=1

# Dependencies change less often than the code, and theirs is the large layer.
COPY --chown=fsdbev constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt torch setuptools wheel ninja

COPY --chown=fsdbev LICENSE MANIFEST.in MODEL_ZOO.md README.md pyproject.toml setup.py ./
COPY --chown=fsdbev fsdbev fsdbev
# An installation would go on without the operators; their build alone stops where it fails.
RUN FSDBEV_NO_EXT=1 pip install --no-cache-dir -c constraints.txt --no-build-isolation -e . \
    && TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST}" python setup.py build_ext --inplace \
    && rm -rf build

COPY --chown=fsdbev configs configs
COPY --chown=fsdbev projects projects
COPY --chown=fsdbev tools tools
COPY --chown=fsdbev weights weights
COPY --chown=fsdbev docs/examples docs/examples

CMD ["python", "-m", "fsdbev.utils.collect_env"]
