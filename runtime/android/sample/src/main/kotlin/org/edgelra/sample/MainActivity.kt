package org.edgelra.sample

import android.app.Activity
import android.os.Bundle
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CompletionException
import org.edgelra.Classification
import org.edgelra.EdgeAssets
import org.edgelra.EdgeRunner
import org.edgelra.RunnerOptions

/** Type a text, see its label; switch adapters with a tap. The bundle is `assets/sentiment.edge`. */
class MainActivity : Activity() {
    private class Loaded(val runner: EdgeRunner, val tokenizer: WordPiece)

    private lateinit var text: EditText
    private lateinit var adapter: Button
    private lateinit var answer: TextView
    private lateinit var loading: CompletableFuture<Loaded>

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        text = EditText(this).apply { hint = "A fine film, warm and funny." }
        adapter = Button(this).apply { isEnabled = false }
        answer = TextView(this).apply { text = "Loading…" }
        val classify = Button(this).apply { text = "Classify" }
        val page = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        listOf(text, classify, adapter, answer).forEach(page::addView)
        setContentView(page)

        val folder = File(File(noBackupFilesDir, "edge-lra"), BUNDLE)
        loading = EdgeAssets.loadAsync(this, BUNDLE, RunnerOptions.DEFAULT.withThreads(2))
            .thenApply { Loaded(it, WordPiece.read(File(folder, "tokenizer.json"))) }
        loading.whenComplete { loaded, error -> runOnUiThread { ready(loaded, error) } }
        classify.setOnClickListener { ask() }
        adapter.setOnClickListener { switch() }
    }

    private fun ready(loaded: Loaded?, error: Throwable?) {
        answer.text = error?.let(::reason) ?: "Ready"
        adapter.isEnabled = loaded != null && loaded.runner.adapters.isNotEmpty()
        adapter.text = loaded?.runner?.defaultAdapter ?: "no adapter"
    }

    private fun ask() {
        val words = text.text.toString().ifBlank { text.hint.toString() }
        loading
            .thenCompose { it.runner.classifyAsync(listOf(it.tokenizer.encode(words))) }
            .whenComplete { found, error ->
                runOnUiThread { answer.text = error?.let(::reason) ?: line(found.single()) }
            }
    }

    private fun line(found: Classification) = "%s %.1f %%".format(found.label, 100 * found.score)

    /** Takes the next adapter: a name and no file, so it may run here. */
    private fun switch() {
        val runner = loading.getNow(null)?.runner ?: return
        val next = (runner.adapters.indexOf(runner.defaultAdapter) + 1) % runner.adapters.size
        runner.use(runner.adapters[next])
        adapter.text = runner.defaultAdapter
    }

    override fun onDestroy() {
        // Not here: closing waits for the runs that have begun.
        loading.thenAcceptAsync { it.runner.close() }
        super.onDestroy()
    }

    private fun reason(error: Throwable): String {
        val cause = if (error is CompletionException) error.cause ?: error else error
        return cause.message ?: cause.toString()
    }

    private companion object {
        const val BUNDLE = "sentiment.edge"
    }
}
