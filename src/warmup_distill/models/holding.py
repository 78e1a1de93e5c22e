"""Models in the memory of a process: loaded once, given back when others are needed."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from warmup_distill.errors import ModelError
from warmup_distill.models.loading import DeviceMap, DType, identity, load_model


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """A model by name, as it was when the work began; it can be sent to another process."""

    name: str
    dtype: DType
    identity: str
    """Of its content, see `models.loading.identity`."""
    device_map: DeviceMap | None = None
    """`auto` spreads it over the devices of the process."""

    @classmethod
    def of(cls, name: str, dtype: DType, device_map: DeviceMap | None = None) -> "ModelRef":
        """The model of this name as it is now."""
        return cls(name=name, dtype=dtype, identity=identity(name), device_map=device_map)

    def load(self) -> PreTrainedModel:
        """A new copy of the model.

        Raises:
            ModelError: it cannot be loaded, or is another one than it was.
        """
        self.require_same()
        return load_model(self.name, self.dtype, self.device_map)

    def require_same(self) -> None:
        """Raise a ModelError if the model of this name is another one than it was."""
        found = identity(self.name)
        if found != self.identity:
            raise ModelError(
                f"{self.name} is not the model that this work began with: its files have the "
                f"digest {found} here, and {self.identity} there. Every machine must see the same "
                "files under this name: put them on storage that all share."
            )


class Held:
    """The models that the work of a process needs now."""

    def __init__(self) -> None:
        self._models: dict[ModelRef, PreTrainedModel] = {}

    @property
    def models(self) -> list[PreTrainedModel]:
        """Those that are there."""
        return [*self._models.values()]

    def take(self, *wanted: ModelRef) -> list[PreTrainedModel]:
        """These models, each loaded unless it is there; all others are given back first."""
        self._models = {ref: model for ref, model in self._models.items() if ref in wanted}
        for ref in wanted:
            if ref not in self._models:
                self._models[ref] = ref.load()
        return [self._models[ref] for ref in wanted]
