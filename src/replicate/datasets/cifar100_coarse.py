"""CIFAR-100 with its coarse labels: the same images and files in twenty classes."""

from dataclasses import replace

from replicate.datasets import cifar100

DATASET = replace(cifar100.DATASET, name="cifar100-coarse", classes=20, label=0)
