# Where the facts come from. Each source leaves meta_data.json, network_data.json and user-data in $told.
metadata=http://169.254.169.254

say() { echo "### $1 at $(cut -d' ' -f1 /proc/uptime) s"; }

wait_for_file() {
  left=$2
  while [ ! -e "$1" ] && [ "$left" -gt 0 ]; do
    usleep 50000
    left=$((left - 1))
  done
}

# Volume names lie 40 bytes into sector 16 of an ISO, and 43 or 71 bytes into a FAT; blkid would take a second to tell.
config_drive() {
  for path in /sys/class/block/*; do
    drive=/dev/${path##*/}
    case $drive in /dev/ram*|/dev/loop*|/dev/fd*) continue ;; esac
    {
      dd if="$drive" bs=128 count=1
      dd if="$drive" bs=8 skip=4101 count=4
    } 2>/dev/null | grep -aqi config-2 && return 0
  done
  return 1
}

read_config_drive() {
  config_drive || return 1
  mkdir -p /run/config-drive
  mount -t iso9660 -o ro "$drive" /run/config-drive 2>/dev/null ||
    mount -t vfat -o ro "$drive" /run/config-drive || return 1
  for name in meta_data.json network_data.json; do
    cp "/run/config-drive/openstack/latest/$name" $told/ 2>/dev/null
  done
  cp /run/config-drive/openstack/latest/user_data $told/user-data 2>/dev/null
  cp -r /run/config-drive/openstack/content $told/ 2>/dev/null
  umount /run/config-drive
  [ -s $told/meta_data.json ]
}

# fetch PATH FILE
fetch() {
  # Debian 12's wget applet crashes on -T.
  timeout 5 wget -q -O "$told/.part" "$metadata/$1" 2>/dev/null && mv "$told/.part" "$told/$2"
}

read_metadata_service() {
  tries=0
  while [ $tries -lt 20 ]; do
    if [ $tries -eq 0 ] || ls /run/lease.* >/dev/null 2>&1; then
      read_openstack || read_ec2 && return 0
    elif [ $tries -ge 10 ]; then
      return 1
    fi
    # A drive that the kernel found late counts too: a busy host takes seconds for each driver of an emulated guest.
    read_config_drive && source=config-drive && return 0
    tries=$((tries + 1))
    sleep 1
  done
  return 1
}

read_openstack() {
  fetch openstack/latest/meta_data.json meta_data.json && grep -q '"uuid"' $told/meta_data.json || return 1
  source=openstack
  fetch openstack/latest/user_data user-data
  return 0
}

read_ec2() {
  fetch latest/meta-data/instance-id ec2-id && [ -s $told/ec2-id ] || return 1
  source=ec2
  fetch latest/meta-data/hostname ec2-hostname
  fetch latest/meta-data/public-keys/0/openssh-key ec2-keys
  fetch latest/user-data user-data
  return 0
}

# Sets instance_id, name and password, and leaves $told/keys and $told/files (path, content path). One jq for all, for
# starting jq costs more than its work.
load_facts() {
  instance_id='' name='' password=''
  : > $told/keys
  : > $told/files
  if [ $source = ec2 ]; then
    instance_id=$(cat $told/ec2-id)
    name=$(cat $told/ec2-hostname 2>/dev/null)
    cat $told/ec2-keys > $told/keys 2>/dev/null
  elif [ $source != none ]; then
    eval "$(jq -r -f /usr/lib/cloud/facts.jq $told/meta_data.json)"
  fi
}
