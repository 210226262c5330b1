# Says which features the kernel has that the tests in the guest are there for, each by making one of its kind.
has= lacks=
try() {
    name=$1
    shift
    if "$@" > /dev/null 2>&1; then has="$has $name"; else lacks="$lacks $name"; fi
}
# Not the names that modules give to links of their own when they are loaded.
try dummy ip link add some-dummy type dummy
try veth ip link add veth0 type veth peer name veth1
try vlan ip link add link veth0 name veth0.5 type vlan id 5
try bridge-vlan-filtering ip link add some-bridge type bridge vlan_filtering 1
try bond ip link add some-bond type bond mode active-backup
try vxlan ip link add some-vxlan type vxlan id 5 dstport 4789
try ifb ip link add some-ifb type ifb
try tbf tc qdisc add dev veth0 root tbf rate 1mbit burst 10kb latency 10ms
tc qdisc add dev veth0 ingress
try u32-mirred tc filter add dev veth0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev some-ifb
try nft-inet-nat nft add table inet t '{ chain c { type nat hook postrouting priority 100; ip saddr 10.0.0.1 masquerade; }; }'
try nft-bridge nft add table bridge t '{ chain c { type filter hook prerouting priority 0; }; }'
try iptables-nft iptables-nft -t nat -S
echo "Linux $(uname -r) in the guest has:$has; lacks:${lacks:- nothing}"
[ -z "$lacks" ]
