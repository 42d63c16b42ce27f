"""Arrays, tensors and frames: their shape and kind, and up to 16 elements of what lies in this process's memory.

Nothing is moved between devices, collected or loaded. The classes are known ones, but a subclass may have its
own properties, so that whatever those raise is contained, `SystemExit` included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcard._values_kinds import MISSING, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from runcard._values_walk import Walk

ELEMENTS = 16


def item(value: Any, names: tuple[str, ...]) -> object:
    """The one number of a numpy scalar or of a 0-d array or tensor, read with ``.item()``; else None."""
    try:
        if "numpy:generic" in names:
            kind = value.dtype.kind
            if kind in "biuf":
                found = value.item()
                return found if type(found) in (bool, int, float) else float(found)
            return float(value) if type(value).__module__ == "ml_dtypes" else None
        if not any(name.partition(":")[0].partition(".")[0] in _LIBRARIES for name in names):
            return None
        if tuple(value.shape) != ():
            return None
        found = value.item() if hasattr(value, "item") else value.numpy().item()
        return found if type(found) in (bool, int, float) else item(found, (name_of(type(found)), "numpy:generic"))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a subclass's own code: not to become the user's
        return None


def array(value: Any, names: tuple[str, ...], walk: Walk, path: str, depth: int) -> Any:
    """The mark of an array, a tensor or a frame; `MISSING` for any other kind."""
    describe = _describer(names)
    if describe is None:
        return MISSING
    try:
        mark, told, values = describe(value, names)
    except KeyboardInterrupt:
        raise
    except BaseException:  # likewise
        return MISSING
    told = {"type": names[0], **told}
    if values is MISSING:
        walk.exact = False
    else:
        told["values"] = values
    walk.note(path, names[0])
    before = dict(walk.types)
    told = {key: walk.value(part, path, min(depth, 4)) for key, part in told.items()}
    walk.types.clear()
    walk.types.update(before)  # the types inside a mark are the mark's own business
    return {mark: told}


def _describer(names: tuple[str, ...]) -> Callable[[Any, tuple[str, ...]], tuple[str, dict[str, Any], Any]] | None:
    for name in names:
        module, _, kind = name.partition(":")
        library = module.partition(".")[0]
        if library in ("pandas", "polars", "pyarrow", "dask"):
            found = {"DataFrame": _frame, "LazyFrame": _lazy, "Table": _frame, "RecordBatch": _frame}.get(kind)
            if found is None and (library, kind) in _COLUMNS:
                found = _column
            if found is not None:
                return _lazy if library == "dask" else found
        elif name == "numpy:ndarray":
            return _numpy
        elif name == "torch:Tensor":
            return _torch
        elif name == "array:array":
            return _typed_list
        elif module.startswith("scipy.sparse"):
            return _sparse
        elif kind in _ARRAYS and library in _LIBRARIES:
            return _foreign
    return None


def _numpy(value: Any, names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    told = {"shape": list(value.shape), "dtype": str(value.dtype), "bytes": int(value.nbytes)}
    small = value.size <= ELEMENTS and value.dtype.kind in "biufcSUMm" and "numpy:memmap" not in names
    if not small:
        return "$array", told, MISSING
    values = value.astype(str).tolist() if value.dtype.kind in "Mm" or value.dtype.itemsize > 16 else value.tolist()
    return "$array", told, values


def _torch(value: Any, names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    told: dict[str, Any] = {
        "shape": [int(size) for size in value.shape],
        "dtype": str(value.dtype),
        "device": str(value.device),
    }
    layout = str(value.layout)
    if layout != "torch.strided":
        return "$array", {**told, "layout": layout}, MISSING
    elements = int(value.numel())
    told["bytes"] = elements * int(value.element_size())
    plain = names[0] in ("torch:Tensor", "torch.nn.parameter:Parameter")
    if not plain or elements > ELEMENTS or value.device.type != "cpu":
        return "$array", told, MISSING
    return "$array", told, value.detach().tolist()


def _sparse(value: Any, _names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    shape = [int(size) for size in value.shape]
    return (
        "$array",
        {"shape": shape, "dtype": str(value.dtype), "layout": str(value.format), "stored": int(value.nnz)},
        MISSING,
    )


def _typed_list(value: Any, _names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    length = len(value)
    told = {"shape": [length], "dtype": value.typecode, "bytes": length * value.itemsize}
    return "$array", told, value.tolist() if length <= ELEMENTS and value.typecode not in "uw" else MISSING


def _foreign(value: Any, _names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    """Arrays whose elements may lie on another device, or are not yet computed: shape and dtype alone."""
    told: dict[str, Any] = {"shape": [size if size is None else int(size) for size in value.shape]}
    told["dtype"] = str(getattr(value.dtype, "name", value.dtype))
    for key in ("device", "nbytes"):
        part = getattr(value, key, None)
        if part is not None and not callable(part):
            told["bytes" if key == "nbytes" else key] = int(part) if key == "nbytes" else str(part)
    return "$array", told, MISSING


def _frame(value: Any, _names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    if hasattr(value, "schema") and hasattr(value, "num_rows"):
        columns, dtypes = list(value.schema.names), [str(kind) for kind in value.schema.types[:1_001]]
    else:
        columns, dtypes = list(value.columns), [str(kind) for kind in list(value.dtypes)[:1_001]]
    return "$frame", {"shape": [int(size) for size in value.shape], "columns": columns, "dtypes": dtypes}, MISSING


def _lazy(_value: Any, _names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    return "$frame", {"lazy": True}, MISSING


def _column(value: Any, _names: tuple[str, ...]) -> tuple[str, dict[str, Any], Any]:
    length = len(value)
    name = getattr(value, "name", None)
    told = {"shape": [length], "dtype": str(value.dtype if hasattr(value, "dtype") else value.type)}
    if type(name) is str:
        told["name"] = name
    small = length <= ELEMENTS
    values = (value.to_pylist() if hasattr(value, "to_pylist") else value.to_list()) if small else MISSING
    return "$array", told, values


_LIBRARIES = frozenset(("numpy", "torch", "jax", "jaxlib", "tensorflow", "cupy", "mlx", "ml_dtypes"))
_ARRAYS = frozenset(
    ("Array", "ArrayImpl", "Tensor", "EagerTensor", "ndarray", "array", "SparseTensor", "ResourceVariable")
)
_COLUMNS = frozenset(
    (library, kind)
    for library, kinds in {
        "pandas": ("Series", "Index"),
        "polars": ("Series",),
        "pyarrow": ("Array", "ChunkedArray"),
    }.items()
    for kind in kinds
)
