"""The text tower as a CPU reads new texts with: in the precision of the bundle's vectors, or in a faster one.

Shape legend: R rows (tokens of all texts), I inputs, O outputs.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from driftline.errors import ConfigError
from driftline.models.text_tower import TextTower

TextPrecision = Literal["fp32", "bf16", "int8"]

INSTRUCTIONS = {"bf16": ("amx_bf16", "avx512_bf16"), "int8": ("avx512_vnni", "avx_vnni")}
"""Any of them will do. Without, torch computes in loops that are slower than fp32."""


def check_text_precision(precision: TextPrecision) -> None:
    """See that this CPU has instructions for a precision.

    Raises
    ------
    ConfigError
        If it has none.
    """
    wanted = INSTRUCTIONS.get(precision)
    if wanted is None:
        return
    found = torch.cpu.get_capabilities()
    if not any(found.get(name) for name in wanted):
        fault = f"`text_precision` = {precision}: this CPU ({found['architecture']}) has neither {' nor '.join(wanted)}"
        raise ConfigError([f"{fault}; choose fp32"])


def in_precision(tower: TextTower, precision: TextPrecision) -> TextTower:
    """The same tower with its language model in another precision, for reading only; fp32 leaves it as it is.

    The adapter is merged into the weights where it can be; the read-out and the projection stay in fp32.

    Raises
    ------
    ConfigError
        If int8 finds no linear layer in the language model.
    """
    if precision == "fp32":
        return tower
    tower.backbone = _merged(tower.backbone)
    if precision == "bf16":
        for parameter in tower.backbone.parameters():  # not the buffers: rotary frequencies need their precision
            parameter.data = parameter.data.to(torch.bfloat16)
    else:
        _quantise(tower.backbone)
    return tower


def _merged(backbone: Any) -> nn.Module:
    from peft import PeftModel

    if isinstance(backbone, PeftModel) and not backbone.active_peft_config.is_prompt_learning:
        with torch.no_grad():
            backbone = backbone.merge_and_unload()
    module: nn.Module = backbone
    return module


def _quantise(backbone: nn.Module) -> None:
    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(["`text_precision` = int8: the language model has no torch.nn.Linear; choose bf16 or fp32"])
    for name in linear:
        backbone.set_submodule(name, Int8Linear(backbone.get_submodule(name)))  # type: ignore[arg-type]


class Int8Linear(nn.Module):
    """A linear layer that multiplies in int8 and sums in int32, with a scale per output and one per row as it comes.

    Vector-wise quantisation (Dettmers et al. 2022, LLM.int8(), §2). One scale for all rows, which is what torch's own
    dynamic quantisation has, lets the outliers of one token blur all others, and a vector depend on its batch.
    """

    weight_IO: Tensor
    scale_O: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight_OI = linear.weight.detach()
        scale_O = _scale(weight_OI)
        self.register_buffer("weight_IO", (weight_OI / scale_O).round().to(torch.int8).T)
        self.register_buffer("scale_O", scale_O.squeeze(-1))
        self.bias = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs`` (… by I) to … by O, in fp32."""
        rows_RI = inputs.flatten(0, -2)
        scale_R1 = _scale(rows_RI)
        sums_RO = torch._int_mm((rows_RI / scale_R1).round_().to(torch.int8), self.weight_IO)
        outputs_RO = sums_RO.float().mul_(scale_R1).mul_(self.scale_O)  # a product of int32 and fp32 takes longer
        if self.bias is not None:
            outputs_RO += self.bias
        outputs: Tensor = outputs_RO.unflatten(0, inputs.shape[:-1])
        return outputs


def _scale(rows: Tensor) -> Tensor:
    """What 1 stands for in each row, so that its largest value becomes 127."""
    return (rows.abs().amax(dim=-1, keepdim=True) / 127).clamp_min(1e-12)
