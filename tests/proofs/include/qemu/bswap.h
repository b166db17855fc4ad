/*
 * Byte order for the proofs: CBMC is told that the host is little-endian.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef PROOFS_QEMU_BSWAP_H
#define PROOFS_QEMU_BSWAP_H

#define le16_to_cpu(value) (value)
#define le32_to_cpu(value) (value)
#define le64_to_cpu(value) (value)
#define cpu_to_le16(value) (value)
#define cpu_to_le32(value) (value)
#define cpu_to_le64(value) (value)

#endif /* PROOFS_QEMU_BSWAP_H */
