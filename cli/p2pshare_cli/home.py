"""Where this user's home is: the one place of the CLI that asks the platform."""

from __future__ import annotations

import os
import warnings

from p2pshare_protocols.places import APP, HOME_VARIABLE, Directories, Places, places_from


def find_places() -> Places:
    """The places of P2PSHARE_HOME, or of the platform (XDG) without it."""
    if os.environ.get(HOME_VARIABLE):
        return places_from(os.environ, os.getcwd(), Directories("", "", "", ""))
    import platformdirs  # 10 ms that a home of one's own need not wait for

    dirs = platformdirs.PlatformDirs(APP, appauthor=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR it says so each time; its fallback is private too
        runtime = dirs.user_runtime_dir
    return places_from(
        os.environ,
        os.getcwd(),
        Directories(dirs.user_config_dir, dirs.user_data_dir, dirs.user_state_dir, runtime),
    )
