"""Where wandb's settings come from, read without wandb: its environment variables, its files, the working directory."""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

_OWN_RUN = frozenset(
    f"WANDB_{name}"
    for name in (
        *("RUN_ID", "NAME", "NOTES", "TAGS", "RESUME", "RUN_GROUP", "JOB_TYPE", "CONFIG_PATHS"),
        *("SWEEP_ID", "SWEEP_PARAM_PATH", "LAUNCH", "LAUNCH_CONFIG_PATH", "SERVICE"),
    )
)
_TRUSTED_ONLY = (
    *("insecure_disable_ssl", "base_url", "api_key", "identity_token_file", "credentials_file"),
    *("http_proxy", "https_proxy", "x_proxies", "x_extra_http_headers", "x_executable"),
)
_SERVER = "https://api.wandb.ai"


class Place:
    """What wandb would be told if it started now.

    Attributes:
        wandb: Its environment variables, without those that belong to a wandb run of the user's own.
        cwd: The working directory; None when it was removed.
    """

    def __init__(self) -> None:
        self.wandb = {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith("WANDB_") and name not in _OWN_RUN and not name.removeprefix("WANDB_CONFIG_").isdecimal()
        }
        try:
            self.cwd: str | None = os.getcwd()
        except OSError:
            self.cwd = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and (self.wandb, self.cwd) == (other.wandb, other.cwd)

    __hash__ = None  # type: ignore[assignment]  # compared only

    def variables(self) -> dict[str, str]:
        """The environment of a process of wandb's own."""
        others = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "_WANDB_"))}
        return {**others, "WANDB_ERROR_REPORTING": "false", **self.wandb}  # nothing is told of us to anybody

    @property
    def mode(self) -> str:
        """``online``, ``offline`` or ``disabled``, by whatever says it."""
        said = self.wandb.get("WANDB_MODE") or self._file("local").get("mode") or self._file("global").get("mode")
        return {"dryrun": "offline"}.get(said or "online", said or "online")

    @property
    def distrusted(self) -> list[str]:
        """What a file in the working directory, perhaps of somebody's repository, sets that only its user may.

        That file could switch the check of certificates off, or send the key to another server.
        """
        told = self._file("local")
        return [name for name in _TRUSTED_ONLY if told.get(name) and f"WANDB_{name.upper()}" not in self.wandb]

    @property
    def settings_file(self) -> Path:
        """The file in the folder that wandb writes to."""
        root = Path(self.wandb.get("WANDB_DIR") or self.cwd or ".")
        folder = ".wandb" if (root / ".wandb").is_dir() else "wandb"
        return root / folder / "settings"

    @property
    def has_key(self) -> bool:
        """Whether a key can be seen; wandb itself may know more ways to one."""
        if any(self.wandb.get(f"WANDB_{name}") for name in ("API_KEY", "IDENTITY_TOKEN_FILE")):
            return True
        told = self._file("global")
        if told.get("api_key"):
            return True
        host = urlsplit(self.wandb.get("WANDB_BASE_URL") or told.get("base_url") or _SERVER).hostname or ""
        named = os.environ.get("NETRC")
        for path in [named] if named else ["~/.netrc", "~/_netrc"]:
            try:
                if netrc.netrc(os.path.expanduser(path)).authenticators(host):
                    return True
            except (OSError, netrc.NetrcParseError):
                continue
        return False

    def _file(self, which: str) -> dict[str, str]:
        path = self.settings_file
        if which == "global":
            folder = self.wandb.get("WANDB_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".config", "wandb")
            path = Path(folder) / "settings"
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, OSError, ValueError):
            return {}
        return dict(parser["default"]) if parser.has_section("default") else {}
