"""Texts of files for tests of `hatch-docker init`, and an environment with a mirror for its base."""

MIRROR = {"HATCH_DOCKER_DEBIAN_MIRROR": "https://mirror.example/debian"}
FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
