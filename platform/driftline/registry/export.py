"""What was trained, in forms that other tools read: a Hugging Face folder, a PEFT adapter, or a copy of the bundle.

Safetensors only. A directory is written completely or not at all, and never over another one.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import nn

from driftline.config import Config
from driftline.errors import BundleError
from driftline.models.adapters import TITLES, is_encoder, load_adapter_state
from driftline.models.backbone import base_config, quiet
from driftline.models.build import base_model, build_text_tower
from driftline.models.text_tower import TextTower
from driftline.registry.bundle import MANIFEST, open_bundle, sha256_of, write_directory
from driftline.registry.contents import Contents

Format = Literal["hf", "peft", "bundle"]

HEAD = "driftline_head.safetensors"
"""What of the tower no Hugging Face model has: read-out position, norms, projection."""

UNMERGEABLE = ("prefix",)
"""Adapters that are no change of weights."""


def export(bundle: Path | str, form: Format, target: Path | str) -> str:
    """Write a bundle, or its text tower, in another form.

    Parameters
    ----------
    form
        ``hf``: the language model of the text tower with its adapter merged, cut to the layers that are read. ``peft``:
        its adapter alone. ``bundle``: a verified copy.
    target
        A directory that does not exist or is empty; for ``bundle`` also a URI such as ``s3://bucket/path``.

    Returns
    -------
    str
        Where it is.

    Raises
    ------
    BundleError
        If the bundle is not intact, its base model has changed, the target is taken, or the adapter has no such form.
    """
    folder, manifest = open_bundle(bundle)
    if "://" in str(target):
        if form != "bundle":
            raise BundleError(f"--out {target}: only --format bundle can be written to a URI; give a local directory")
        return _upload(folder, str(target))
    place = Path(target).expanduser()
    if form == "bundle":
        return str(write_directory(place, lambda work: _copy(folder, work)))
    contents = Contents.load(folder)
    _check_form(contents.config, form)
    _check_base(contents.config, manifest.base_sha256)
    tower = _tower(contents)
    fill = _merged if form == "hf" else _adapter
    return str(write_directory(place, lambda work: fill(tower, contents.config, work)))


def _check_form(config: Config, form: Format) -> None:
    kind = config.text.adapter.kind
    if form == "hf" and kind in UNMERGEABLE:
        raise BundleError(
            f"text.adapter.kind={kind}: {TITLES[kind]} cannot be merged into weights, it is a key-value cache before "
            "the text; use --format peft"
        )
    if form == "peft" and kind == "full":
        raise BundleError("text.adapter.kind=full: all weights were trained, there is no adapter; use --format hf")


def _check_base(config: Config, expected: str) -> None:
    """An adapter means nothing on other weights than those it was trained on."""
    weights = base_model(config) / "model.safetensors"
    if expected and weights.is_file() and sha256_of(weights) != expected:
        raise BundleError(f"{weights} is not the base that this bundle was trained on (its sha256 differs); restore it")


def _tower(contents: Contents) -> TextTower:
    """The trained text tower, in fp32."""
    tower = build_text_tower(contents.config)
    prefix = "tower."
    load_adapter_state(tower, {n.removeprefix(prefix): t for n, t in contents.text.items() if n.startswith(prefix)})
    return tower.eval()


def _merged(tower: TextTower, config: Config, work: Path) -> None:
    """A plain Hugging Face folder with the base's language-model head, and what is Driftline's beside it."""
    from transformers import AutoModelForCausalLM

    backbone: Any = tower.backbone
    if config.text.adapter.kind != "full":
        with torch.no_grad():
            backbone = backbone.merge_and_unload()
    model, loader = backbone, "AutoModel"
    if not is_encoder(backbone.config):
        base = base_model(config)
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                base, config=base_config(base, config.text.layers), dtype=torch.float32
            )
        model.base_model.load_state_dict(backbone.state_dict())
        loader = "AutoModelForCausalLM"
    with quiet():
        model.save_pretrained(work)
    load = (
        f"{loader}.from_pretrained(folder).base_model" if loader != "AutoModel" else "AutoModel.from_pretrained(folder)"
    )
    _save_rest(tower, config, work, _readme("hf", config, f"from transformers import {loader}", load, "folder"))


def _adapter(tower: TextTower, config: Config, work: Path) -> None:
    """A PEFT adapter for the base without its head, cut to its first layers."""
    backbone: Any = tower.backbone
    backbone.peft_config["default"].base_model_name_or_path = str(base_model(config))
    backbone.save_pretrained(str(work))
    layers = backbone.config.num_hidden_layers
    load = f"PeftModel.from_pretrained(AutoModel.from_pretrained(base, num_hidden_layers={layers}), folder)"
    imports = "from peft import PeftModel\nfrom transformers import AutoModel"
    _save_rest(tower, config, work, _readme("peft", config, imports, load, "base"))


def _save_rest(tower: TextTower, config: Config, work: Path, readme: str) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(base_model(config)).save_pretrained(work)
    parts: dict[str, nn.Module] = {"norm": tower.norm, "norm_mean": tower.norm_mean, "project": tower.project}
    state = {f"{name}.{key}": tensor for name, part in parts.items() for key, tensor in part.state_dict().items()}
    save_file({"readout_H": tower.readout_H.detach(), **state}, work / HEAD)
    (work / "README.md").write_text(readme, encoding="utf-8")


def _readme(form: str, config: Config, imports: str, load: str, tokenizer: str) -> str:
    what = {
        "hf": "The language model of a Driftline text tower, its adapter merged: a plain Hugging Face model.",
        "peft": "The adapter of a Driftline text tower, for PEFT: for the base without its language-model head.",
    }[form]
    return README.format(
        what=what,
        base=config.text.base,
        path=base_model(config),
        head=HEAD,
        imports=imports,
        load=load,
        tokenizer=tokenizer,
        max_tokens=config.text.max_tokens,
    )


README = """# Exported by Driftline

{what}

Base: `{base}`. `{head}` holds what no Hugging Face model has: the learned read-out position behind the last token, two
norms and the projection. An item's vector, of unit length, from its text (year and genres first, as in the bundle's
`items.parquet`):

```python
import torch
from safetensors.torch import load_file
from torch.nn.functional import layer_norm, normalize
{imports}
from transformers import AutoTokenizer

base = "{path}"


@torch.no_grad()
def item_vectors(folder, texts):
    model = {load}.eval()
    head = load_file(f"{{folder}}/{head}")
    tokenizer = AutoTokenizer.from_pretrained({tokenizer}, padding_side="right")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokens = tokenizer(texts, padding=True, truncation=True, max_length={max_tokens}, return_tensors="pt")
    mask, rows = tokens["attention_mask"], torch.arange(len(texts))
    last = mask.sum(dim=1)
    embeddings = model.get_input_embeddings()(tokens["input_ids"])
    embeddings = torch.cat([embeddings, torch.zeros_like(embeddings[:, :1])], dim=1)
    mask = torch.cat([mask, torch.zeros_like(mask[:, :1])], dim=1)
    embeddings[rows, last], mask[rows, last] = head["readout_H"], 1
    hidden = model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state
    mean = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    width = hidden.shape[-1:]
    read = layer_norm(hidden[rows, last], width, head["norm.weight"], head["norm.bias"])
    read = read + layer_norm(mean, width, head["norm_mean.weight"], head["norm_mean.bias"])
    return normalize(read @ head["project.weight"].T, dim=-1)
```
"""


def _copy(folder: Path, work: Path) -> None:
    _, manifest = open_bundle(folder)
    for name in [*manifest.files, MANIFEST]:
        shutil.copyfile(folder / name, work / name)
    open_bundle(work)  # the copy's checksums


def _upload(folder: Path, uri: str) -> str:
    """Copy to an object store; the manifest goes last, so that what is there without one is no bundle."""
    from pyarrow import fs

    _, manifest = open_bundle(folder)
    store, root = fs.FileSystem.from_uri(uri)
    if store.get_file_info(fs.FileSelector(root, allow_not_found=True)):
        raise BundleError(f"{uri} exists already and is never overwritten: choose another place")
    store.create_dir(root)
    for name in [*manifest.files, MANIFEST]:
        fs.copy_files(str(folder / name), f"{root}/{name}", fs.LocalFileSystem(), store)
    return uri
