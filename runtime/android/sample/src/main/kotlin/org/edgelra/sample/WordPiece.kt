package org.edgelra.sample

import com.google.gson.JsonParser
import java.io.File
import java.text.Normalizer

/**
 * BERT's tokenizer for uncased text, from a bundle's `tokenizer.json`: as much as this sample
 * needs. Other models need a library that reads every kind of that file.
 */
class WordPiece private constructor(private val ids: Map<String, Int>) {
    private val unknown = ids.getValue("[UNK]").toLong()

    /** Returns the token ids of a text with `[CLS]` and `[SEP]`, [most] at most. */
    fun encode(text: String, most: Int = 128): LongArray {
        val inner = words(text).flatMap(::pieces).take(most - 2)
        return longArrayOf(id("[CLS]"), *inner.toLongArray(), id("[SEP]"))
    }

    private fun id(token: String) = ids[token]?.toLong() ?: unknown

    /** Splits at spaces and punctuation; drops accents, case and control characters. */
    private fun words(text: String): List<String> {
        val words = mutableListOf<StringBuilder>()
        var open = false
        fun add(point: Int, alone: Boolean) {
            if (alone || !open) words.add(StringBuilder())
            words.last().appendCodePoint(point)
            open = !alone
        }
        val spaced = text.codePoints().toArray().joinToString("") { point ->
            val letter = String(Character.toChars(point))
            if (isIdeograph(point)) " $letter " else if (isDropped(point)) "" else letter
        }
        for (point in Normalizer.normalize(spaced, Normalizer.Form.NFD).codePoints().toArray()) {
            when {
                Character.isWhitespace(point) || Character.isSpaceChar(point) -> open = false
                Character.getType(point) == Character.NON_SPACING_MARK.toInt() -> Unit
                else -> for (lower in lowered(point)) add(lower, isPunctuation(lower))
            }
        }
        return words.map(StringBuilder::toString)
    }

    private fun lowered(point: Int): IntArray =
        String(Character.toChars(point)).lowercase().codePoints().toArray()

    /** Takes the longest known beginning, again and again; a word that has none is unknown. */
    private fun pieces(word: String): List<Long> {
        if (word.codePointCount(0, word.length) > LONGEST) return listOf(unknown)
        val found = mutableListOf<Long>()
        var start = 0
        while (start < word.length) {
            val prefix = if (start == 0) "" else "##"
            val end = (word.length downTo start + 1)
                .firstOrNull { prefix + word.substring(start, it) in ids } ?: return listOf(unknown)
            found += id(prefix + word.substring(start, end))
            start = end
        }
        return found
    }

    companion object {
        private const val LONGEST = 100

        /** Reads the vocabulary of a `tokenizer.json` of the kind WordPiece. */
        fun read(file: File): WordPiece {
            val root = file.bufferedReader().use { JsonParser.parseReader(it) }.asJsonObject
            val vocabulary = root.getAsJsonObject("model").getAsJsonObject("vocab")
            return WordPiece(vocabulary.entrySet().associate { it.key to it.value.asInt })
        }

        private fun isDropped(point: Int) =
            point == 0 || point == 0xfffd || (!Character.isWhitespace(point) && isControl(point))

        private fun isControl(point: Int) = when (Character.getType(point).toByte()) {
            Character.CONTROL, Character.FORMAT, Character.PRIVATE_USE, Character.UNASSIGNED -> true
            else -> false
        }

        private fun isPunctuation(point: Int): Boolean {
            if (point < 128) return point > 32 && !Character.isLetterOrDigit(point) && point != 127
            return when (Character.getType(point).toByte()) {
                Character.CONNECTOR_PUNCTUATION, Character.DASH_PUNCTUATION,
                Character.START_PUNCTUATION, Character.END_PUNCTUATION,
                Character.INITIAL_QUOTE_PUNCTUATION, Character.FINAL_QUOTE_PUNCTUATION,
                Character.OTHER_PUNCTUATION -> true
                else -> false
            }
        }

        private fun isIdeograph(point: Int) =
            point in 0x4e00..0x9fff || point in 0x3400..0x4dbf || point in 0x20000..0x2fa1f ||
                point in 0xf900..0xfaff
    }
}
