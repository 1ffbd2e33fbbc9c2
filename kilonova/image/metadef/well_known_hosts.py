"""Well-known definitions about hosts and what they give their guests: what schedulers and hypervisors read."""

from __future__ import annotations

from kilonova.image.metadef.known import AGGREGATE, FLAVOR, IMAGE, VOLUME, Known

HOSTS = (
    Known(
        "OS::Compute::AggregateDiskFilter",
        "Disk Allocation per Host",
        "How much disk servers may be promised on the hosts of an aggregate.",
        ((AGGREGATE, ""),),
        (("disk_allocation_ratio", "Disk Subscription Ratio", "Promised disk over the disk that is there.", "number"),),
    ),
    Known(
        "OS::Compute::AggregateIoOpsFilter",
        "IO Ops per Host",
        "How many servers may be busy with disks at once on a host of an aggregate.",
        ((AGGREGATE, ""),),
        (("max_io_ops_per_host", "Maximum IO Operations per Host", "Servers that are built, resized, copied or "
          "moved.", "integer"),),
    ),
    Known(
        "OS::Compute::AggregateNumInstancesFilter",
        "Instances per Host",
        "How many servers a host of an aggregate may have.",
        ((AGGREGATE, ""),),
        (("max_instances_per_host", "Max Instances Per Host", "Most servers on one host.", "integer"),),
    ),
    Known(
        "OS::Compute::CPUMode",
        "CPU Mode",
        "Which processor guests see.",
        ((IMAGE, "hw_"), (FLAVOR, "hw:")),
        (("cpu_mode", "CPU Mode", "The host's own, one like it, or a model of choice.",
          ("none", "host-model", "host-passthrough", "custom")),),
    ),
    Known(
        "OS::Compute::CPUPinning",
        "CPU Pinning",
        "Whether virtual processors keep to processors of the host.",
        ((IMAGE, "hw_"), (VOLUME, "hw_"), (FLAVOR, "hw:")),
        (
            ("cpu_policy", "CPU Pinning Policy", "Processors shared with others, or one's own.",
             ("shared", "dedicated")),
            ("cpu_thread_policy", "CPU Thread Pinning Policy", "What becomes of a core's other threads.",
             ("isolate", "prefer", "require")),
        ),
    ),
    Known(
        "OS::Compute::GuestMemoryBacking",
        "Guest Memory Backing",
        "What a guest's memory lies on.",
        ((FLAVOR, "hw:"), (IMAGE, "hw_"), (VOLUME, "hw_")),
        (("mem_page_size", "Size of memory page", "small, large, any, or a size in KiB.", "string"),),
    ),
    Known(
        "OS::Compute::GuestShutdownBehavior",
        "Shutdown Behavior",
        "How a guest is stopped.",
        ((IMAGE, ""),),
        (("os_shutdown_timeout", "Shutdown timeout", "Seconds that a guest has before its power is cut.", "integer"),),
    ),
    Known(
        "OS::Compute::HostCapabilities",
        "Compute Host Capabilities",
        "What hosts must have for a flavor, as they report it.",
        ((FLAVOR, "capabilities:"), (AGGREGATE, "aggregate_instance_extra_specs:")),
        (
            ("cpu_info:vendor", "Vendor", "Who made the processors.", ("Intel", "AMD")),
            ("cpu_info:model", "Model", "The processors' model, as libvirt names it.", "string"),
            ("cpu_info:arch", "Architecture", "The processors' architecture, such as x86_64.", "string"),
            ("cpu_info:topology:cores", "Cores", "Cores of each socket.", "integer"),
            ("cpu_info:topology:threads", "Threads", "Threads of each core.", "integer"),
            ("cpu_info:topology:sockets", "Sockets", "Sockets of the host.", "integer"),
            ("cpu_info:features", "Features", "A feature that the processors have, as libvirt names it.", "array"),
        ),
    ),
    Known(
        "OS::Compute::InstanceData",
        "Instance Config Data",
        "What guests of this image are given and asked for.",
        ((IMAGE, ""), (VOLUME, "")),
        (
            ("img_config_drive", "Config Drive", "Whether guests need a config drive.", ("optional", "mandatory")),
            ("os_require_quiesce", "Require Quiescent File System", "Snapshots need frozen file systems.",
             ("yes", "no")),
        ),
    ),
    Known(
        "OS::Compute::TPM",
        "TPM Options",
        "The security module that guests see.",
        ((FLAVOR, "hw:"), (IMAGE, "hw_")),
        (
            ("tpm_model", "TPM model", "Its interface.", ("tpm-tis", "tpm-crb")),
            ("tpm_version", "TPM version", "Its version.", ("1.2", "2.0")),
        ),
    ),
    Known(
        "OS::Compute::VTPM",
        "Virtual TPM",
        "Hosts that can give guests a security module.",
        ((FLAVOR, "traits:"), (IMAGE, "traits:")),
        tuple((f"COMPUTE_SECURITY_TPM_{version}", f"TPM {version.replace('_', '.')}", "The host must have it.",
               ("required",)) for version in ("1_2", "2_0")),
    ),
    Known(
        "OS::Cinder::Volumetype",
        "Cinder Volume Type",
        "Volumes that are made of this image.",
        ((IMAGE, "cinder_"),),
        (("img_volume_type", "Image Volume Type", "Their type, unless the user says another.", "string"),),
    ),
)  # fmt: skip
