"""Where a benchmark keeps what it has done, so that what is finished is not done again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from driftline.drift.benchmark.downstream import REPLAYED
from driftline.drift.benchmark.trial import Size, Trial, run_trial
from driftline.drift.benchmark.world import World
from driftline.drift.streams import Track
from driftline.errors import ConfigError
from driftline.models.recommender import Recommender

FORMAT = 3
"""Of trials: what another version wrote is not mixed with what this one writes."""


@dataclass(frozen=True)
class Storage:
    """A folder: ``encoders/SEED.safetensors``; ``TRACK-SEED.*`` in ``trials/``, ``replays/`` and ``judged/``."""

    folder: Path

    def claim(self, bundle: str, size: Size) -> None:
        """Note what the folder is for.

        Raises
        ------
        ConfigError
            If it holds trials of another bundle, or of other sizes.
        """
        settings = {"format": FORMAT, "bundle": bundle, **asdict(size)}
        path = self.folder / "settings.json"
        if path.is_file() and (stored := json.loads(path.read_text())) != settings:
            raise ConfigError([f"{self.folder} holds trials of {stored}, not of {settings}: give another --out"])
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))

    def trained(self, seed: int) -> bool:
        """Whether the seed's encoder is there."""
        return self._encoder(seed).is_file()

    def finished(self, track: Track, seed: int) -> bool:
        """Whether a trial is there, whole."""
        return self._trial(track, seed).with_suffix(".json").is_file()

    def replayed(self, track: Track, seed: int) -> bool:
        """Whether a trial's replay is there, whole, or the track has none."""
        return track not in REPLAYED or self._replay(track, seed).with_suffix(".json").is_file()

    def judged(self, track: Track, seed: int) -> bool:
        """Whether what the judge says of a trial is there, whole."""
        return self._judged(track, seed).with_suffix(".json").is_file()

    def whole(self, track: Track, seed: int, judged: bool) -> bool:
        """Whether nothing of a trial is left to do; ``judged``: by a judge too."""
        return self.finished(track, seed) and self.replayed(track, seed) and (not judged or self.judged(track, seed))

    def train(self, world: World, seed: int) -> None:
        """Train the seed's encoder."""
        path = self._encoder(seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file({name: tensor.contiguous() for name, tensor in world.train(seed).state_dict().items()}, part)
        part.rename(path)

    def run(self, world: World, track: Track, seed: int, size: Size) -> None:
        """Run a trial with the seed's encoder."""
        run_trial(world, self.model(world, seed), track, seed, size).save(self._trial(track, seed))

    def model(self, world: World, seed: int) -> Recommender:
        """The seed's encoder."""
        model = world.fresh_model()
        model.load_state_dict(load_file(self._encoder(seed)))
        return model.eval()

    def trial(self, track: Track, seed: int) -> Trial:
        """A finished trial."""
        return Trial.load(self._trial(track, seed))

    def replay(self, track: Track, seed: int) -> Trial:
        """The finished replay of a trial."""
        return Trial.load(self._replay(track, seed))

    def keep_replay(self, replay: Trial) -> None:
        """Write what :func:`driftline.ranking.replay.replay` made."""
        replay.save(self._replay(replay.summary["track"], replay.summary["seed"]))

    def opinions(self, track: Track, seed: int) -> Trial:
        """What the judge says of a trial."""
        return Trial.load(self._judged(track, seed))

    def keep_opinions(self, opinions: Trial) -> None:
        """Write what :func:`~driftline.drift.benchmark.judged.judge_trial` made."""
        opinions.save(self._judged(opinions.summary["track"], opinions.summary["seed"]))

    def _encoder(self, seed: int) -> Path:
        return self.folder / "encoders" / f"{seed}.safetensors"

    def _trial(self, track: Track, seed: int) -> Path:
        return self.folder / "trials" / f"{track}-{seed}"

    def _replay(self, track: Track, seed: int) -> Path:
        return self.folder / "replays" / f"{track}-{seed}"

    def _judged(self, track: Track, seed: int) -> Path:
        return self.folder / "judged" / f"{track}-{seed}"
