import Foundation

/// BERT's tokenizer for uncased text, from a bundle's `tokenizer.json`: as much as this sample
/// needs. Other models need a library that reads every kind of that file.
struct WordPiece: Sendable {
    private struct File: Decodable {
        struct Model: Decodable {
            let vocab: [String: Int64]
        }
        let model: Model
    }

    private static let longest = 100
    private let ids: [String: Int64]

    /// Reads the vocabulary of a `tokenizer.json` of the kind WordPiece.
    init(file: URL) throws {
        ids = try JSONDecoder().decode(File.self, from: Data(contentsOf: file)).model.vocab
    }

    /// Returns the token ids of a text with `[CLS]` and `[SEP]`, `most` at most.
    func encode(_ text: String, most: Int = 128) -> [Int64] {
        let inner = words(text).flatMap(pieces).prefix(most - 2)
        return [id("[CLS]")] + inner + [id("[SEP]")]
    }

    private func id(_ token: String) -> Int64 { ids[token] ?? ids["[UNK]"] ?? 0 }

    /// Splits at spaces and punctuation; drops accents, case and control characters.
    private func words(_ text: String) -> [String] {
        var words: [String] = []
        var open = false
        func add(_ scalar: Unicode.Scalar, alone: Bool) {
            if alone || !open { words.append("") }
            words[words.count - 1].unicodeScalars.append(scalar)
            open = !alone
        }
        var spaced = String.UnicodeScalarView()
        for scalar in text.unicodeScalars where !isDropped(scalar) {
            spaced.append(contentsOf: isIdeograph(scalar) ? [" ", scalar, " "] : [scalar])
        }
        for scalar in String(spaced).decomposedStringWithCanonicalMapping.unicodeScalars {
            if scalar.properties.isWhitespace {
                open = false
            } else if scalar.properties.generalCategory != .nonspacingMark {
                for lower in scalar.properties.lowercaseMapping.unicodeScalars {
                    add(lower, alone: isPunctuation(lower))
                }
            }
        }
        return words
    }

    /// Takes the longest known beginning, again and again; a word that has none is unknown.
    private func pieces(_ word: String) -> [Int64] {
        let scalars = Array(word.unicodeScalars)
        guard scalars.count <= WordPiece.longest else { return [id("[UNK]")] }
        var found: [Int64] = []
        var start = 0
        while start < scalars.count {
            let prefix = start == 0 ? "" : "##"
            let end = stride(from: scalars.count, to: start, by: -1).first { end in
                ids[prefix + text(scalars[start..<end])] != nil
            }
            guard let end else { return [id("[UNK]")] }
            found.append(id(prefix + text(scalars[start..<end])))
            start = end
        }
        return found
    }

    private func text(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }

    private func isDropped(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.properties.isWhitespace { return false }
        switch scalar.properties.generalCategory {
        case .control, .format, .privateUse, .unassigned: return true
        default: return scalar.value == 0xfffd
        }
    }

    private func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII {
            return scalar.value > 32 && scalar.value != 127
                && !CharacterSet.alphanumerics.contains(scalar)
        }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
            .initialPunctuation, .finalPunctuation, .otherPunctuation:
            return true
        default: return false
        }
    }

    private func isIdeograph(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2fa1f, 0xf900...0xfaff: return true
        default: return false
        }
    }
}
