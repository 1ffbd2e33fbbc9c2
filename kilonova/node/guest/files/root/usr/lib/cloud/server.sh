# Making the guest this server: its name, its keys, and once in its life its password, files and user data.

set_hostname() {
  [ -n "$name" ] || return 0
  short=${name%%.*}
  hostname "$short"
  echo "$short" > /etc/hostname
  printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s %s\n' "$name" "$short" > /etc/hosts
}

set_keys() {
  [ -s $told/keys ] || return 0
  for home in /root /home/cirros; do
    mkdir -p $home/.ssh
    cp $told/keys $home/.ssh/authorized_keys
    chmod 700 $home/.ssh
    chmod 600 $home/.ssh/authorized_keys
  done
  chown -R cirros:cirros /home/cirros/.ssh
}

first_boot_of_server() {
  [ -n "$instance_id" ] || return 1
  before=$(cat /var/lib/cloud/instance-id 2>/dev/null)
  [ "$instance_id" != "$before" ] || return 1
  echo "$instance_id" > /var/lib/cloud/instance-id
}

# A server made from another's snapshot must not share its host keys.
new_host_keys() {
  [ -n "$before" ] || return 0
  /usr/lib/cloud/host-keys new
  killall dropbear 2>/dev/null
  dropbear -p 22
}

set_password() {
  [ -n "$password" ] && printf 'cirros:%s\n' "$password" | chpasswd
}

write_files() {
  tab=$(printf '\t')
  while IFS=$tab read -r path content; do
    file=$told/content/${content##*/}
    if [ ! -e "$file" ]; then
      mkdir -p $told/content
      fetch "openstack/${content#/}" "content/${content##*/}" || continue
    fi
    mkdir -p "$(dirname "$path")"
    cp "$file" "$path"
    chmod 644 "$path"
  done < $told/files
}

run_user_data() {
  [ -s $told/user-data ] || return 0
  script=/var/lib/cloud/user-data
  if [ "$(head -c 2 $told/user-data | hexdump -v -e '/1 "%02x"')" = 1f8b ]; then
    gunzip -c < $told/user-data > $script
  else
    cp $told/user-data $script
  fi
  chmod 700 $script
  [ "$(head -c 2 $script)" = '#!' ] || return 0
  $script
  say "user data ended with status $?"
}
