"""Names of new models: those that are taken, and one that is free."""

from napari_em_seg.predict.weights import find_models, user_folder

__all__ = ["free_name", "taken_names"]

_BEGUN = ".training"  # a folder of that ending belongs to a model that is not there yet, or is


def taken_names() -> set[str]:
    """Return the names of all networks that are there, and of all files among one's own models."""
    own = {path.stem for path in user_folder().glob("*.*") if path.suffix != _BEGUN}
    return own | {model.name for model in find_models()}


def free_name(wanted: str) -> str:
    """Return the name that is wanted if no model has it and none was begun under it, else one with a number."""
    taken = taken_names() | {path.stem for path in user_folder().glob(f"*{_BEGUN}")}
    names = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
