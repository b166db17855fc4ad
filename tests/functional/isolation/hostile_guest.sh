# SPDX-License-Identifier: GPL-2.0-or-later
#
# The guest of the hostile backend: what it does to the device in slot 7 when
# it is told to, and the honest disk that it uses all the time meanwhile.
#
# A line "TOKEN WORDS" on the console runs WORDS in the background and says
# "DONE TOKEN STATUS TEXT" at its end, if it ends.

pci=/sys/bus/pci/devices/0000:00:07.0
modprobe virtio_net
modprobe virtiofs
modprobe scsi_mod scan=manual
modprobe sd_mod
modprobe virtio_scsi

# What comes up takes its time; 20 s of it.
wait_for() {
    for try in $(seq 400); do
        eval "$1" >/dev/null 2>&1 && return 0
        usleep 50000
    done
    echo "nothing: $1"
    return 1
}

good_disk() {
    round=0
    while :; do
        round=$((round + 1))
        options="/dev/vda --size 256K --generation $((round % 200 + 1))"
        if ! load write $options > /tmp/good ||
           ! load verify $options > /tmp/good; then
            echo "GOOD bad $(tail -n 1 /tmp/good)"
            return
        fi
        echo "GOOD $round"
        usleep 100000
    done
}

node() { echo /dev/$(ls $pci/virtio*/block); }
card() { ls $pci/virtio*/net; }
unit() { echo /dev/$(ls -d $pci/virtio*/host*/target*/*/block/* |
                     sed 's,.*/,,'); }

disk_io() {
    dd if=$1 of=/dev/null bs=16k count=4 iflag=direct &&
    dd if=/dev/zero of=$1 bs=4k count=4 oflag=direct
}

# Many requests at once, as large as they come.
big() {
    for number in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        dd if=$1 of=/dev/null bs=$2 count=1 skip=$((number % $3)) $4 &
    done
    wait
}

up_blk() { wait_for '[ -b $(node) ]'; }
io_blk() { disk_io $(node); }
big_blk() { big $(node) 1M 8 iflag=direct; }
config_blk() {
    echo "write through" > $(echo $pci/virtio*/block/*)/cache_type
    echo "write back" > $(echo $pci/virtio*/block/*)/cache_type
}

up_net() {
    wait_for '[ "$(card)" ]' && ip addr add 10.0.9.2/24 dev $(card) &&
        ip link set $(card) up
}
io_net() { ping -c 2 -W 5 10.0.9.1; }
big_net() { ping -c 20 -i 0.01 -s 1400 -W 5 10.0.9.1; }

# The driver knows the tag a little later than the device.
up_fs() { wait_for 'mount -t virtiofs share /mnt'; }
io_fs() {
    dd if=/mnt/data of=/dev/null bs=16k count=4 &&
    dd if=/dev/zero of=/mnt/data bs=4k count=4 conv=notrunc
}
big_fs() { big /mnt/data 64k 16; }

up_scsi() {
    wait_for '[ -e $pci/virtio*/host*/scsi_host/*/scan ]' &&
    for host in $pci/virtio*/host*/scsi_host/*; do
        echo 0 0 0 > $host/scan
    done &&
    wait_for '[ -b $(unit) ]'
}
io_scsi() { disk_io $(unit); }
big_scsi() { big $(unit) 1M 8 iflag=direct; }

# An IOMMU translates.
behind() { grep -q DMA $pci/iommu_group/type; }

# Vectors $3 to $4 switch slot $2 of the bridge $1 off.
lead() {
    read address rest < $1/resource
    vector $pci/resource1 $1/resource0 $address $2 $3 $4
}

# I/O until "calm" is said with the same number.
busy() { while [ ! -e /tmp/calm.$2 ]; do io_$1 || usleep 100000; done; }
calm() { touch /tmp/calm.$1; }

down() {
    [ $1 != fs ] || umount -f /mnt || umount -l /mnt
    basename $pci/virtio* > /tmp/name
    readlink -f $pci/virtio*/driver > /tmp/driver
    cat /tmp/name > $(cat /tmp/driver)/unbind
}
again() { cat /tmp/name > $(cat /tmp/driver)/bind && up_$1; }

good_disk &
echo HOSTILE ready
while read token words; do
    ( eval "$words" > /tmp/out.$token 2>&1
      echo "DONE $token $? $(tail -n 2 /tmp/out.$token | tr '\n' ' ')"
      rm -f /tmp/out.$token ) &
done
