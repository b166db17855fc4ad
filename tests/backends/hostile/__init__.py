# SPDX-License-Identifier: GPL-2.0-or-later
"""A vhost-user backend that makes one hostile move; see __main__.py."""
