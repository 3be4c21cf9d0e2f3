"""Networks that start from a seed: `mlp`, `chain`, the CIFAR ResNets 8 and 20, the ResNets 18, 34,
50 and 152, the AWD-LSTM and a transformer for translation.
"""

from typing import TYPE_CHECKING

from replicate import lazy

if TYPE_CHECKING:
    from replicate.models.awd_lstm import AWDLSTM, Shape, awd_lstm, penalise
    from replicate.models.build import Specification, build
    from replicate.models.chain import chain
    from replicate.models.deep_resnet import resnet152
    from replicate.models.group_norm import use_group_norm
    from replicate.models.initialise import initialise
    from replicate.models.mlp import mlp
    from replicate.models.operations import count_operations
    from replicate.models.reorder import reorder_units
    from replicate.models.resnet import ResNet, resnet8, resnet18, resnet20, resnet34, resnet50
    from replicate.models.translator import Sizes, Translator, translator

lazy.attach(__name__)
