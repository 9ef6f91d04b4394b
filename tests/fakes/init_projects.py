"""Directories that `hatch-docker init` finds: files by their paths, and a mirror for the base it chooses."""

MIRROR = {"HATCH_DOCKER_DEBIAN_MIRROR": "https://mirror.example/debian"}
FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'
