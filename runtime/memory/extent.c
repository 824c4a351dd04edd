/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buddy allocation without free lists (extent.h). Floor: memory. One thread.
 *
 * Each piece has a complete binary tree over its units, padded to a power of two, kept as an array:
 * node 1 is the whole piece, node i has the halves 2i and 2i + 1. A node holds 1 + the largest
 * order that can be allocated below it, 0 for none. The roots are the leaves of one more such tree,
 * so that "the lowest address with room" is a walk down that turns left wherever the left side has
 * room.
 *
 *   order 2         [3]                    unit   0 1 2 3
 *   order 1      [2]   [0]   after         state  . . x x      (x: one extent of 2 units)
 *   order 0    [1][1] [1][1]
 *
 * Below an allocated node its subtree keeps the values of a free one: nobody walks there, and
 * freeing writes only the path to the root. Two free halves make a free whole: that is all merging
 * takes.
 */
#include "memory/extent.h"

#include <errno.h>
#include <stdlib.h>

struct mts_extents {
	char *base;
	size_t piece_bytes;
	size_t unit_bytes;
	size_t bytes;
	uint32_t units;       /* over all pieces */
	uint32_t units_usable; /* in the first `usable` pieces */
	uint32_t units_free;
	uint32_t usable;      /* pieces below the limit; the others look full, with no extent in them */
	uint32_t piece_units; /* in each piece but the last */
	uint32_t pieces;
	uint32_t order;       /* of a piece's root */
	uint32_t top_leaves;  /* pieces, padded to a power of two */
	uint8_t *tree;        /* [pieces][2 << order] */
	uint8_t *top;         /* [2 * top_leaves] */
	uint8_t *taken;       /* [units]: 1 + order where an allocated extent begins */
};

static uint32_t log2_ceil(uint32_t n)
{
	return n <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(n - 1);
}

static uint8_t *piece_tree(const struct mts_extents *e, uint32_t piece)
{
	return e->tree + ((size_t)piece << (e->order + 1));
}

/* What a parent of the given order holds when its halves hold left and right. */
static uint8_t joined(uint8_t left, uint8_t right, uint32_t order)
{
	if (left == order && right == order)
		return (uint8_t)(order + 1);
	return left > right ? left : right;
}

static void top_update(struct mts_extents *e, uint32_t piece)
{
	uint32_t i = e->top_leaves + piece;

	e->top[i] = piece_tree(e, piece)[1];
	for (i /= 2; i; i /= 2)
		e->top[i] = e->top[2 * i] > e->top[2 * i + 1] ? e->top[2 * i] : e->top[2 * i + 1];
}

static void path_update(struct mts_extents *e, uint32_t piece, uint32_t node, uint32_t order)
{
	uint8_t *tree = piece_tree(e, piece);

	for (node /= 2, order++; node; node /= 2, order++)
		tree[node] = joined(tree[2 * node], tree[2 * node + 1], order);
	top_update(e, piece);
}

static void piece_build(struct mts_extents *e, uint32_t piece)
{
	uint8_t *tree = piece_tree(e, piece);
	uint32_t leaves = 1u << e->order, order = 0, first = piece * e->piece_units;

	for (uint32_t i = 0; i < leaves; i++)
		tree[leaves + i] = i < e->piece_units && first + i < e->units;
	for (uint32_t i = leaves - 1; i; i--) {
		order = e->order - (31 - (uint32_t)__builtin_clz(i));
		tree[i] = joined(tree[2 * i], tree[2 * i + 1], order);
	}
	top_update(e, piece);
}

static int shape(struct mts_extents *e, size_t bytes)
{
	size_t piece_units, units;

	if (!e->unit_bytes || !e->piece_bytes || !bytes)
		return -EINVAL;
	if (e->piece_bytes > bytes)
		e->piece_bytes = bytes;
	piece_units = e->piece_bytes / e->unit_bytes;
	if (!piece_units)
		return -EINVAL;
	units = bytes / e->piece_bytes * piece_units + bytes % e->piece_bytes / e->unit_bytes;
	if (units > 1u << 31)
		return -E2BIG;
	e->piece_units = (uint32_t)piece_units;
	e->bytes = bytes;
	e->units = e->units_usable = e->units_free = (uint32_t)units;
	e->pieces = e->usable = (uint32_t)((units + piece_units - 1) / piece_units);
	e->order = log2_ceil(e->piece_units);
	e->top_leaves = 1u << log2_ceil(e->pieces);
	return 0;
}

int mts_extents_open(void *base, size_t bytes, size_t piece_bytes, size_t unit_bytes,
		     struct mts_extents **out)
{
	struct mts_extents *e = calloc(1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	e->base = base;
	e->piece_bytes = piece_bytes;
	e->unit_bytes = unit_bytes;
	ret = shape(e, bytes);
	if (ret) {
		free(e);
		return ret;
	}
	e->tree = calloc(e->pieces, (size_t)2 << e->order);
	e->top = calloc(e->top_leaves, 2);
	e->taken = calloc(e->units, 1);
	if (!e->tree || !e->top || !e->taken) {
		mts_extents_close(e);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < e->pieces; i++)
		piece_build(e, i);
	*out = e;
	return 0;
}

void mts_extents_close(struct mts_extents *e)
{
	if (!e)
		return;
	free(e->taken);
	free(e->top);
	free(e->tree);
	free(e);
}

/* Pieces that lie in [0, bytes) whole. */
static uint32_t pieces_in(const struct mts_extents *e, size_t bytes)
{
	size_t n = bytes >= e->bytes ? e->pieces : bytes / e->piece_bytes;

	return n < e->pieces ? (uint32_t)n : e->pieces;
}

static uint32_t units_in(const struct mts_extents *e, uint32_t pieces)
{
	return pieces == e->pieces ? e->units : pieces * e->piece_units;
}

int mts_extents_limit(struct mts_extents *e, size_t bytes)
{
	uint32_t pieces = pieces_in(e, bytes), units = units_in(e, pieces);

	if (pieces < e->usable && e->units_free < e->units_usable)
		return -EINVAL;
	for (uint32_t i = e->usable; i < pieces; i++)
		piece_build(e, i);
	for (uint32_t i = pieces; i < e->usable; i++) {
		piece_tree(e, i)[1] = 0;
		top_update(e, i);
	}
	e->units_free = e->units_free - e->units_usable + units;
	e->units_usable = units;
	e->usable = pieces;
	return 0;
}

static uint32_t lowest_piece(const struct mts_extents *e, uint8_t want)
{
	uint32_t i = 1;

	while (i < e->top_leaves)
		i = 2 * i + (e->top[2 * i] < want);
	return i - e->top_leaves;
}

int mts_extent_alloc(struct mts_extents *e, uint32_t units, struct mts_extent *out)
{
	uint32_t piece, order, level, node = 1, at;
	uint8_t *tree;

	if (!units || units & (units - 1))
		return -EINVAL;
	order = (uint32_t)__builtin_ctz(units);
	if (e->top[1] < order + 1)
		return -ENOSPC;
	piece = lowest_piece(e, (uint8_t)(order + 1));
	tree = piece_tree(e, piece);
	for (level = e->order; level > order; level--)
		node = 2 * node + (tree[2 * node] < order + 1);
	at = (node << order) - (1u << e->order);
	tree[node] = 0;
	path_update(e, piece, node, order);

	out->base = e->base + piece * e->piece_bytes + at * e->unit_bytes;
	out->unit = piece * e->piece_units + at;
	out->units = units;
	e->taken[out->unit] = (uint8_t)(order + 1);
	e->units_free -= units;
	return 0;
}

int mts_extent_free(struct mts_extents *e, const struct mts_extent *x)
{
	uint32_t piece, order, node;

	if (!x->units || x->units & (x->units - 1) || x->unit >= e->units)
		return -EINVAL;
	order = (uint32_t)__builtin_ctz(x->units);
	if (e->taken[x->unit] != order + 1)
		return -EINVAL;
	e->taken[x->unit] = 0;
	piece = x->unit / e->piece_units;
	node = ((1u << e->order) + x->unit % e->piece_units) >> order;
	piece_tree(e, piece)[node] = (uint8_t)(order + 1);
	path_update(e, piece, node, order);
	e->units_free += x->units;
	return 0;
}

uint64_t mts_extents_units(const struct mts_extents *e)
{
	return e->units_usable;
}

uint64_t mts_extents_units_free(const struct mts_extents *e)
{
	return e->units_free;
}

uint32_t mts_extents_largest(const struct mts_extents *e)
{
	return e->top[1] ? 1u << (e->top[1] - 1) : 0;
}

struct tally {
	const struct mts_extents *e;
	uint32_t piece;
	uint64_t free;
	uint64_t taken; /* extents met */
	int broken;
};

static int is_taken(const struct tally *t, uint32_t at, uint32_t order)
{
	uint32_t unit = t->piece * t->e->piece_units + at;

	return at < t->e->piece_units && unit < t->e->units && t->e->taken[unit] == order + 1;
}

static void tally_node(struct tally *t, uint32_t node, uint32_t order)
{
	const uint8_t *tree = piece_tree(t->e, t->piece);
	uint32_t at = (node << order) - (1u << t->e->order);

	if (is_taken(t, at, order)) {
		t->taken++;
		t->broken |= tree[node] != 0;
	} else if (tree[node] == order + 1) {
		t->free += 1ull << order;
	} else if (order) {
		tally_node(t, 2 * node, order - 1);
		tally_node(t, 2 * node + 1, order - 1);
		t->broken |= tree[node] != joined(tree[2 * node], tree[2 * node + 1], order);
	} else {
		t->broken |= tree[node] != 0;
	}
}

int mts_extents_verify(const struct mts_extents *e)
{
	struct tally t = { .e = e };
	uint64_t heads = 0, units = 0;

	for (t.piece = 0; t.piece < e->pieces; t.piece++) {
		if (t.piece < e->usable)
			tally_node(&t, 1, e->order);
		else
			t.broken |= piece_tree(e, t.piece)[1] != 0;
		t.broken |= e->top[e->top_leaves + t.piece] != piece_tree(e, t.piece)[1];
	}
	for (uint32_t i = 0; i < e->units; i++) {
		heads += e->taken[i] != 0;
		units += e->taken[i] ? 1ull << (e->taken[i] - 1) : 0;
	}
	/* A head that the walk did not meet lies inside another extent or inside free space. */
	if (t.broken || t.taken != heads || t.free != e->units_free || t.free + units != e->units_usable)
		return -EUCLEAN;
	return 0;
}
