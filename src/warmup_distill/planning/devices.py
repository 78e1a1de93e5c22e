"""Accelerators by what their vendor says of them."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Device:
    """One accelerator, as its data sheet has it."""

    flops: float
    """Floating-point operations per second in bfloat16, accumulated in float32, without sparsity:
    half of what most sheets print."""
    bandwidth: float
    """Bytes per second between its memory and its cores."""
    memory: int
    """Bytes. What sheets call GB is GiB."""
    link: float
    """Bytes per second to the others of its machine, one way: half of what sheets print."""
    marks: tuple[str, ...]
    """What its driver's name for it contains."""


DEVICES = {
    # NVIDIA A100 Tensor Core GPU data sheet (2021): SXM, third NVLink. Both sizes.
    "a100-40gb": Device(
        flops=312e12, bandwidth=1.555e12, memory=40 * GIB, link=300e9, marks=("A100", "40GB")
    ),
    "a100-80gb": Device(
        flops=312e12, bandwidth=2.039e12, memory=80 * GIB, link=300e9, marks=("A100", "80GB")
    ),
    # NVIDIA H100 Tensor Core GPU data sheet: SXM, fourth NVLink. The PCIe card is slower.
    "h100": Device(
        flops=989e12, bandwidth=3.35e12, memory=80 * GIB, link=450e9, marks=("H100", "HBM3")
    ),
    # NVIDIA H200 Tensor Core GPU data sheet: SXM, fourth NVLink.
    "h200": Device(flops=989e12, bandwidth=4.8e12, memory=141 * GIB, link=450e9, marks=("H200",)),
    # NVIDIA HGX B200 and DGX B200 data sheets, an eighth of the machine: fifth NVLink.
    "b200": Device(flops=2250e12, bandwidth=8.0e12, memory=180 * GIB, link=900e9, marks=("B200",)),
    # NVIDIA L40S data sheet: PCIe 4.0 x16, no NVLink.
    "l40s": Device(flops=362e12, bandwidth=0.864e12, memory=48 * GIB, link=32e9, marks=("L40S",)),
    # NVIDIA Ada GPU architecture white paper (2022), GeForce RTX 4090: PCIe 4.0 x16, no NVLink.
    "rtx4090": Device(
        flops=165.2e12, bandwidth=1.008e12, memory=24 * GIB, link=32e9, marks=("RTX 4090",)
    ),
}
"""By the names that `cluster.device` takes; a test holds the two together."""


def is_called(device: Device, name: str) -> bool:
    """Whether a driver's name for what is at hand is that of a device."""
    return all(mark in name for mark in device.marks)
