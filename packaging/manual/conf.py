# SPDX-License-Identifier: GPL-2.0-or-later
"""The user documentation of memory isolation, apart from QEMU's manual."""

project = "QEMU with memory isolation"
copyright = "GPL-2.0-or-later"
root_doc = "index"
exclude_patterns = ["*.inc"]
html_theme = "alabaster"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"description": "vhost-user backends without guest RAM"}
man_pages = [("qemu-system-x86_64-isolation", "qemu-system-x86_64-isolation",
              "QEMU for x86 with memory isolation of vhost-user backends",
              "", 1)]
