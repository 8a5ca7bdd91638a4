"""A plugin of pytest: Keras runs on pyrnn, and a file says how often it did."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyrnn.keras


def pytest_configure() -> None:
    pyrnn.keras.plug_in()


def pytest_sessionfinish() -> None:
    found = {"calls": pyrnn.keras.calls, "handed_back": pyrnn.keras.handed_back}
    Path(os.environ["KERAS_PLUGGED"]).write_text(json.dumps(found))
