# network_data.json → lines of tab-separated words: address MAC ADDRESS/PREFIX, route MAC NETWORK/PREFIX GATEWAY,
# mtu MAC SIZE, dns ADDRESS, static MAC. Only networks with fixed addresses are told; DHCP finds the others itself.
def bits:
  if contains(":") then
    [explode[] | [.] | implode | ascii_downcase | {"f": 4, "e": 3, "c": 2, "8": 1}[.] // 0] | add // 0
  else
    [split(".")[] | {"255": 8, "254": 7, "252": 6, "248": 5, "240": 4, "224": 3, "192": 2, "128": 1}[.] // 0] | add
  end;
def prefixed($address; $mask):
  if $address | contains("/") then $address else "\($address)/\($mask // "255.255.255.255" | bits)" end;
(.links // []) as $links
| (.networks // [] | .[] | select(.type == "ipv4" or .type == "ipv6") | select(.ip_address)
    | . as $network
    | ($links[] | select(.id == $network.link)) as $link
    | ($link.ethernet_mac_address | ascii_downcase) as $mac
    | ["static", $mac, .type],
      ["address", $mac, prefixed(.ip_address; .netmask)],
      (.routes // [] | .[] | ["route", $mac, prefixed(.network; .netmask), .gateway]),
      (if (.gateway // "") != "" then
        ["route", $mac, (if $network.type == "ipv6" then "::/0" else "0.0.0.0/0" end), .gateway]
      else empty end),
      (.services // [] | .[] | select(.type == "dns") | ["dns", .address])),
  ($links[] | select(.mtu) | ["mtu", (.ethernet_mac_address | ascii_downcase), (.mtu | tostring)]),
  (.services // [] | .[] | select(.type == "dns") | ["dns", .address])
| @tsv
