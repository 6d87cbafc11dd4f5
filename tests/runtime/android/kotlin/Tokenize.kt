import java.io.File
import org.edgelra.sample.WordPiece

/** Prints the token ids of each line that is read. */
fun main(arguments: Array<String>) {
    val tokenizer = WordPiece.read(File(arguments.single()))
    generateSequence(::readlnOrNull).forEach { println(tokenizer.encode(it).joinToString(" ")) }
}
