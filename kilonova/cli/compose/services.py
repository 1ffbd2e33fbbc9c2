"""The services of the embedded cloud, wired to each other through their own doors. Read `build` down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kilonova.block_storage import service as block_storage
from kilonova.block_storage.client import VolumeClient
from kilonova.block_storage.scheduler import VolumeSchedulerService
from kilonova.block_storage.service import BlockStorage
from kilonova.cli.compose.ground import Ground
from kilonova.compute import service as compute
from kilonova.compute.catalogue import ComputeCatalogue
from kilonova.compute.client import ServerEventsClient
from kilonova.compute.conductor import ComputeConductor
from kilonova.compute.core import Compute, ComputeSettings
from kilonova.compute.core import Peers as ComputePeers
from kilonova.compute.metadata import metadata_app
from kilonova.compute.reconcile import LOOPS as COMPUTE_LOOPS
from kilonova.compute.scheduler.worker import SchedulerWorker
from kilonova.identity import service as identity
from kilonova.identity.bootstrap import Plan, ServiceUserPlan, bootstrap, endpoint_plans
from kilonova.identity.core import IdentityService
from kilonova.image import service as image
from kilonova.image.client import ImageClient
from kilonova.network import service as network
from kilonova.network.client import NetworkClient
from kilonova.network.service import NetworkService
from kilonova.network.worker import NetworkWorker
from kilonova.node.agents.compute import Peers as AgentPeers
from kilonova.node.images.store import FileStore
from kilonova.placement import service as placement
from kilonova.placement.client import PlacementClient
from kilonova.saga.loops import Loop, Loops
