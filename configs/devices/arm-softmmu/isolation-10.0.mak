# SPDX-License-Identifier: GPL-2.0-or-later
#
# A name that is unknown is an error, and these are unknown to newer versions.

include isolation.mak

CONFIG_VFIO_PLATFORM=n
