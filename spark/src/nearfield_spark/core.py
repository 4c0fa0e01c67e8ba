"""The guest in wasmtime: the very module that the edge host runs, so the same bits come out."""

import threading
from importlib.resources import files

import wasmtime

from . import messages

#: Bytes of a pack that are handed over at a time.
PUSHED_BYTES = 1 << 20


class CoreError(Exception):
    """The guest refused a call: ``status`` is the kind, ``reason`` the engine's name of what is wrong."""

    def __init__(self, status, reason, message):
        super().__init__(f"{status}: {message}")
        self.status, self.reason = status, reason


def guest():
    """Returns the guest module that came with this package.

    Raises ``FileNotFoundError`` where the package was installed without it: ``cargo xtask spark`` puts it there.
    """
    return (files(__package__) / "nearfield_guest.wasm").read_bytes()


class Core:
    """An instance of the guest. One thread at a time calls it."""

    def __init__(self, module=None):
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        instance = wasmtime.Instance(self._store, wasmtime.Module(engine, module or guest()), [])
        self._exports = instance.exports(self._store)
        self._memory = self._exports["memory"]
        found = self._exports["nf_abi_version"](self._store)
        if found != messages.ABI_VERSION:
            raise ValueError(f"the guest's ABI has version {found}, this package speaks {messages.ABI_VERSION}")
        # States come without names here, so none may be kept warm: the guest would take one for another.
        self._call("nf_warm", messages.number(0))

    def _call(self, name, message=b""):
        store = self._store
        at = self._exports["nf_input"](store, len(message)) & 0xFFFFFFFF
        self._memory.write(store, message, at)
        answer = self._exports[name](store, len(message)) & 0xFFFFFFFFFFFFFFFF
        at, length = answer >> 32, answer & 0xFFFFFFFF
        answer = bytes(self._memory.read(store, at, at + length))
        if answer[0] != 0:
            raise CoreError(messages.STATUSES[answer[0]], *messages.read_failure(answer[1:]))
        return answer[1:]

    def load(self, pack):
        """Puts a model pack into service; returns which model it is."""
        self._call("nf_pack_begin", messages.number(len(pack)))
        for begin in range(0, len(pack), PUSHED_BYTES):
            self._call("nf_pack_push", pack[begin : begin + PUSHED_BYTES])
        return messages.read_model(self._call("nf_pack_finish"))

    def step(self, **step):
        """Does a step with a user's state: see ``messages.step``. An event out of its limits refuses all of it."""
        return messages.read_stepped(self._call("nf_step", messages.step(**step)))

    def features(self, profile, events, contexts):
        """Returns the features of each event, and the profile after them. It needs no model."""
        return messages.read_featured(self._call("nf_features", messages.featuring(profile, events, contexts)))


_shared = {}
_lock = threading.Lock()


def shared(pack_file=None):
    """Returns the instance of this process with the model of a file, made when it is first asked for: a Python worker
    of Spark lives through many batches."""
    key = (threading.get_ident(), pack_file)
    with _lock:
        core = _shared.get(key)
    if core is None:
        core = Core()
        if pack_file:
            with open(pack_file, "rb") as file:
                core.load(file.read())
        with _lock:
            _shared[key] = core
    return core
