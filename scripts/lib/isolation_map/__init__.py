# SPDX-License-Identifier: GPL-2.0-or-later
"""Who can map the memory of a VM: see __main__.py."""
