# Addresses: fixed ones from the config drive, DHCP on every other card, IPv6 by router advertisements (the kernel).

card_of() {
  for card in /sys/class/net/eth*; do
    [ "$(cat "$card/address" 2>/dev/null)" = "$1" ] && echo "${card##*/}" && return 0
  done
  return 1
}

start_network() {
  static_cards=' '
  if grep -qsE '"type": *"ipv[46]"' $told/network_data.json; then
    jq -r -f /usr/lib/cloud/network.jq $told/network_data.json > $told/network.tsv && apply_static
  fi
  : > $told/network-started
  waited_for=''
  for path in /sys/class/net/eth*; do
    [ -e "$path" ] || continue
    card=${path##*/}
    case $static_cards in *" $card "*) continue ;; esac
    cirros-dhcpc up "$card" >/dev/null 2>&1 &
    waited_for="$waited_for $card"
  done
  [ -z "$waited_for" ] || wait_for_leases
}

# Until all cards have an address; but once one has, the others get only 2 s more, and none gets more than 10 s.
wait_for_leases() {
  left=100
  while [ $left -gt 0 ]; do
    missing=0
    have=0
    for card in $waited_for; do
      if [ -e "/run/lease.$card" ]; then have=1; else missing=1; fi
    done
    [ $missing = 1 ] || return 0
    [ $have = 0 ] || [ $left -le 20 ] || left=20
    left=$((left - 1))
    usleep 100000
  done
}

apply_static() {
  while read -r what mac value gateway; do
    case $what in
      dns) grep -qs "^nameserver $mac\$" /run/resolv.static || echo "nameserver $mac" >> /run/resolv.static; continue ;;
    esac
    card=$(card_of "$mac") || continue
    metric=$((100 + ${card#eth}))
    case $what in
      static)
        ip link set "$card" up
        # A card with only a fixed IPv6 address may still get IPv4 by DHCP.
        [ "$value" = ipv4 ] && static_cards="$static_cards$card "
        ;;
      address)
        ip addr add "$value" dev "$card"
        echo "$card $value static" > "/run/lease.$card"
        ;;
      route) ip route replace "$value" via "$gateway" dev "$card" metric $metric ;;
      mtu) ip link set "$card" mtu "$value" ;;
    esac
  done < $told/network.tsv
  cat /run/resolv.* > /etc/resolv.conf 2>/dev/null
}
