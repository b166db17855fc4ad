/*
 * Linked into contrib/vhost-user-scsi with --wrap: commands go to the unit of
 * the disk.
 *
 * The program logs in with the unit of its URL and then speaks to unit 0, where
 * Debian's iSCSI target always has its controller.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

struct iscsi_context;
struct scsi_task;
struct iscsi_data;

#define DISK_UNIT 1

struct scsi_task *
__real_iscsi_scsi_command_sync(struct iscsi_context *context, int unit,
                               struct scsi_task *task,
                               struct iscsi_data *data);
struct scsi_task *
__wrap_iscsi_scsi_command_sync(struct iscsi_context *context, int unit,
                               struct scsi_task *task,
                               struct iscsi_data *data);

struct scsi_task *
__wrap_iscsi_scsi_command_sync(struct iscsi_context *context, int unit,
                               struct scsi_task *task,
                               struct iscsi_data *data)
{
    (void)unit;
    return __real_iscsi_scsi_command_sync(context, DISK_UNIT, task, data);
}
