// SPDX-License-Identifier: GPL-2.0
/*
 * For tests only: pins user memory with FOLL_WRITE | FOLL_LONGTERM, which is what the NVIDIA
 * driver does for cudaHostRegister, and reads and writes it through the kernel's own mapping, as
 * a device would by DMA. See mts_pin.h. One file's calls are serialized by its mutex.
 */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "mts_pin.h"

struct mts_pin {
	struct mutex lock;
	struct page **pages;
	unsigned long count;
};

static long pin_slow(unsigned long start, unsigned long count, struct page **pages)
{
	long ret;

	mmap_read_lock(current->mm);
#ifdef MTS_PIN_HAS_VMAS
	ret = pin_user_pages(start, count, FOLL_WRITE | FOLL_LONGTERM, pages, NULL);
#else
	ret = pin_user_pages(start, count, FOLL_WRITE | FOLL_LONGTERM, pages);
#endif
	mmap_read_unlock(current->mm);
	return ret;
}

static long pin_pages(const struct mts_pin_range *range, unsigned long count, struct page **pages)
{
	if (range->flags & MTS_PIN_FAST)
		return pin_user_pages_fast(range->address, count, FOLL_WRITE | FOLL_LONGTERM,
					   pages);
	return pin_slow(range->address, count, pages);
}

static int pin_range(struct mts_pin *pin, struct mts_pin_range *range)
{
	unsigned long count = range->length >> PAGE_SHIFT;
	struct page **pages;
	long got;

	if (pin->pages)
		return -EBUSY;
	pages = kvcalloc(count, sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return -ENOMEM;
	got = pin_pages(range, count, pages);
	if (got != count) {
		if (got > 0)
			unpin_user_pages(pages, got);
		kvfree(pages);
		return got < 0 ? got : -EFAULT;
	}
	pin->pages = pages;
	pin->count = count;
	range->pages = got;
	return 0;
}

static int pin_drop(struct mts_pin *pin)
{
	if (!pin->pages)
		return -ENOENT;
	unpin_user_pages_dirty_lock(pin->pages, pin->count, true);
	kvfree(pin->pages);
	pin->pages = NULL;
	return 0;
}

static int pin_swap(struct mts_pin *pin, struct mts_pin_byte *byte)
{
	struct page *page;
	u8 *data, old;

	if (!pin->pages || byte->offset >> PAGE_SHIFT >= pin->count)
		return -ENOENT;
	page = pin->pages[byte->offset >> PAGE_SHIFT];
	data = kmap_local_page(page);
	old = data[offset_in_page(byte->offset)];
	data[offset_in_page(byte->offset)] = byte->value;
	kunmap_local(data);
	byte->value = old;
	byte->node = page_to_nid(page);
	return 0;
}

static long pin_ioctl_range(struct mts_pin *pin, void __user *user)
{
	struct mts_pin_range range;
	int ret;

	if (copy_from_user(&range, user, sizeof(range)))
		return -EFAULT;
	ret = pin_range(pin, &range);
	if (ret)
		return ret;
	return copy_to_user(user, &range, sizeof(range)) ? -EFAULT : 0;
}

static long pin_ioctl_swap(struct mts_pin *pin, void __user *user)
{
	struct mts_pin_byte byte;
	int ret;

	if (copy_from_user(&byte, user, sizeof(byte)))
		return -EFAULT;
	ret = pin_swap(pin, &byte);
	if (ret)
		return ret;
	return copy_to_user(user, &byte, sizeof(byte)) ? -EFAULT : 0;
}

static long pin_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mts_pin *pin = file->private_data;
	long ret = -ENOTTY;

	mutex_lock(&pin->lock);
	if (cmd == MTS_PIN_IOCTL_PIN)
		ret = pin_ioctl_range(pin, (void __user *)arg);
	else if (cmd == MTS_PIN_IOCTL_SWAP)
		ret = pin_ioctl_swap(pin, (void __user *)arg);
	else if (cmd == MTS_PIN_IOCTL_UNPIN)
		ret = pin_drop(pin);
	mutex_unlock(&pin->lock);
	return ret;
}

static int pin_open(struct inode *inode, struct file *file)
{
	struct mts_pin *pin = kzalloc(sizeof(*pin), GFP_KERNEL);

	if (!pin)
		return -ENOMEM;
	mutex_init(&pin->lock);
	file->private_data = pin;
	return 0;
}

static int pin_release(struct inode *inode, struct file *file)
{
	struct mts_pin *pin = file->private_data;

	pin_drop(pin);
	kfree(pin);
	return 0;
}

static const struct file_operations pin_operations = {
	.owner		= THIS_MODULE,
	.open		= pin_open,
	.release	= pin_release,
	.unlocked_ioctl	= pin_ioctl,
};

static struct miscdevice pin_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "mts_pin",
	.fops	= &pin_operations,
	.mode	= 0666,
};

module_misc_device(pin_device);

MODULE_DESCRIPTION("For tests only: pins user memory as a device driver does");
MODULE_LICENSE("GPL");
