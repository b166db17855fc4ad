# SPDX-License-Identifier: GPL-2.0-or-later
#
# An Arm QEMU with as little of its own as possible, for the devices that QEMU
# has for Arm only: one machine with PCI.  What devices it has besides costs
# little, for most of their objects are those of the x86 QEMU beside it.
#
# Everything is built unless it is named here, so this is what QEMU would build
# for Arm in addition.

# Objects of their own for each target, and no test of ours needs them.
CONFIG_VFIO_PCI=n

# All machines but ARM_VIRT.
CONFIG_I2C_DEVICES=n
CONFIG_CUBIEBOARD=n
CONFIG_EXYNOS4=n
CONFIG_HIGHBANK=n
CONFIG_INTEGRATOR=n
CONFIG_FSL_IMX31=n
CONFIG_MUSICPAL=n
CONFIG_MPS3R=n
CONFIG_MUSCA=n
CONFIG_SX1=n
CONFIG_STELLARIS=n
CONFIG_STM32VLDISCOVERY=n
CONFIG_B_L475E_IOT01A=n
CONFIG_REALVIEW=n
CONFIG_VERSATILE=n
CONFIG_VEXPRESS=n
CONFIG_ZYNQ=n
CONFIG_NPCM7XX=n
CONFIG_COLLIE=n
CONFIG_ASPEED_SOC=n
CONFIG_NETDUINO2=n
CONFIG_NETDUINOPLUS2=n
CONFIG_OLIMEX_STM32_H405=n
CONFIG_MPS2=n
CONFIG_RASPI=n
CONFIG_DIGIC=n
CONFIG_SABRELITE=n
CONFIG_EMCRAFT_SF2=n
CONFIG_MICROBIT=n
CONFIG_FSL_IMX25=n
CONFIG_FSL_IMX7=n
CONFIG_FSL_IMX6UL=n
CONFIG_ALLWINNER_H3=n
CONFIG_ALLWINNER_R40=n
